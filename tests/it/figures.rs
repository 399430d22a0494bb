//! Figures for `docs/`, which no assertion can be made of: they depend on the
//! machine. Run with `cargo test --release --test it figures -- --ignored
//! --nocapture`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::gateway::run;
use crate::harness::request::{Ask, basic_as, get};
use crate::harness::{Client, Gateway, PASSWORD, Setup, Target, basic};

/// The times of one kind of request.
struct Times(Vec<Duration>);

impl Times {
    fn quantile(&self, of: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted[((sorted.len() - 1) as f64 * of) as usize].as_secs_f64() * 1e6
    }

    /// Mean and its standard error, in µs, of those below the 90 % quantile:
    /// what is above it is the machine's own business.
    fn mean(&self) -> (f64, f64) {
        let most = self.quantile(0.9);
        let kept: Vec<_> =
            self.0.iter().map(|time| time.as_secs_f64() * 1e6).filter(|us| *us <= most).collect();
        let count = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / count;
        let variance = kept.iter().map(|us| (us - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, (variance / count).sqrt())
    }
}

/// Asks in turn with an unknown user and with a wrong secret, so that what
/// slows the machine slows both.
fn compare(what: &str, users: Value, known: &str, secret: &str, rounds: usize) {
    let limits = json!({ "auth_failures_per_minute": 0 });
    let gateway = Setup::addresses(1)
        .config("users", users)
        .config("limits", limits)
        .config("log.access", false)
        .start();
    let unknown = "x".repeat(known.len());
    let texts = [&*unknown, known].map(|user| get("http://127.0.0.1:9/", &basic_as(user, secret)));
    let mut client: Client = gateway.client();
    let mut times = [Times(Vec::new()), Times(Vec::new())];
    for round in 0..rounds + rounds / 10 {
        for which in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let start = Instant::now();
            client.send(&texts[which]).answer("GET").fails(407, "auth_failed");
            if round >= rounds / 10 {
                times[which].0.push(start.elapsed());
            }
        }
    }
    let [(none, none_error), (wrong, wrong_error)] = [times[0].mean(), times[1].mean()];
    println!(
        "FIGURE {what}: unknown user {none:.2} ± {none_error:.2} µs (median {:.1}), wrong secret {wrong:.2} ± \
         {wrong_error:.2} µs (median {:.1}); difference {:+.2} ± {:.2} µs of {rounds} each",
        times[0].quantile(0.5),
        times[1].quantile(0.5),
        wrong - none,
        none_error.hypot(wrong_error)
    );
}

fn hashed(parameters: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["hash-password"], "right\n");
    let phc = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    json!(phc.replacen("m=19456,t=2,p=1", parameters, 1))
}

#[test]
#[ignore = "prints figures"]
fn time_of_an_unknown_user_and_a_wrong_secret() {
    let user = |name: &str, password: Value| json!({ "name": name, "password": password, "pools": ["p"] });
    let plain = || user("acme", json!(PASSWORD));
    compare("plain secrets", json!([plain()]), "acme", "wrong-secret", 20_000);
    compare("plain secrets, 40 KB sent", json!([plain()]), "acme", &"w".repeat(40_000), 4_000);
    let argon = || user("hash", hashed("m=19456,t=2,p=1"));
    compare("argon2, of its user", json!([argon(), plain()]), "hash", "wrong-secret", 100);
    compare("argon2, of a user with a plain secret", json!([argon(), plain()]), "acme", "wrong-secret", 100);
    let light = || user("lite", hashed("m=4096,t=1,p=1"));
    compare("two settings of argon2", json!([argon(), light()]), "lite", "wrong-secret", 100);
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Up,
    Down,
}

/// A client and the target behind it, between which bytes may flow this way:
/// through a tunnel, or as a body.
fn pair(gateway: &Gateway, target: &Target, way: Way, plain: bool) -> (Client, Client) {
    if !plain {
        return (gateway.tunnel("acme", target).0, target.accept());
    }
    let mut client = gateway.client();
    let mut head = get(&target.url("/"), &basic("acme"));
    if way == Way::Up {
        head = head.replacen("GET ", "POST ", 1).replacen(
            "\r\n\r\n",
            "\r\nContent-Length: 9999999999999\r\n\r\n",
            1,
        );
    }
    client.send(head);
    let (mut far, _) = target.accept_head();
    if way == Way::Down {
        far.send("HTTP/1.1 200 OK\r\n\r\n");
        client.head();
    }
    (client, far)
}

/// How near to a bandwidth the bytes of so many tunnels, or bodies, come.
fn bandwidth(bytes_per_s: u64, tunnels: usize, way: Way, plain: bool) {
    let limits = json!({ "bandwidth": { if way == Way::Up { "up" } else { "down" }: bytes_per_s } });
    let gateway = Setup::addresses(1).config("users.0.limits", limits).config("log.access", false).start();
    let target = Target::open();
    let (mut readers, mut held) = (Vec::new(), Vec::new());
    for _ in 0..tunnels {
        let (near, far) = pair(&gateway, &target, way, plain);
        let (from, to) = if way == Way::Up { (near, far) } else { (far, near) };
        let mut writer = from.writer();
        std::thread::spawn(move || while std::io::Write::write_all(&mut writer, &[7; 65536]).is_ok() {});
        readers.push(to);
        held.push(from);
    }
    let (warm, time) = (Duration::from_secs(2), Duration::from_secs(10));
    let start = Instant::now();
    let counted: Vec<u64> = std::thread::scope(|scope| {
        let count = |reader: &mut Client| {
            let mut bytes = 0;
            while start.elapsed() < warm + time {
                let piece = reader.exactly(4096).len() as u64;
                bytes += if start.elapsed() > warm { piece } else { 0 };
            }
            bytes
        };
        let all: Vec<_> = readers.iter_mut().map(|reader| scope.spawn(move || count(reader))).collect();
        all.into_iter().map(|one| one.join().expect("a count")).collect()
    });
    let rate = counted.iter().sum::<u64>() as f64 / time.as_secs_f64();
    let (least, most) = (counted.iter().min().unwrap_or(&0), counted.iter().max().unwrap_or(&0));
    println!(
        "FIGURE {way:?}, {tunnels} {}: {:.2} % of {bytes_per_s} bytes/s; least and most {least} and {most} bytes",
        if plain { "bodies" } else { "tunnels" },
        100.0 * rate / bytes_per_s as f64
    );
    drop(held);
}

#[test]
#[ignore = "prints figures"]
fn bandwidths_are_kept() {
    for way in [Way::Up, Way::Down] {
        for plain in [false, true] {
            for tunnels in [1, 64] {
                for rate in [1_000_000, 50_000_000] {
                    bandwidth(rate, tunnels, way, plain);
                }
            }
        }
    }
}
