//! Tests in a user and network namespace of their own.
//!
//! Owns: running one test again inside of one, without root.
//! Must not know: what the test does there.

use std::process::Command;

/// Set inside the namespace.
const INSIDE: &str = "MOORGATE_TEST_NAMESPACE";

/// What a namespace is prepared with.
const PREPARE: &str = "ip link set lo up && ip -6 route add local 2001:db8:7::/64 dev lo && exec \"$@\"";

/// Runs `test`, a function of this binary, in a network of its own, where
/// all of 2001:db8:7::/64 is local.
#[track_caller]
pub fn within<F: Fn()>(test: F) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    // `it::file::name::{{closure}}` is test `file::name`.
    let path = std::any::type_name::<F>();
    let name = path.trim_end_matches("::{{closure}}").split_once("::").expect("a path").1;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--", "sh", "-c", PREPARE, "sh"])
        .arg(std::env::current_exe().expect("the test binary"))
        .args([name, "--exact", "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare, from the Debian package util-linux, and ip, from iproute2, are installed");
    let said =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "in its namespace {name} failed:\n{said}");
}
