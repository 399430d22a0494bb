//! The manifests of `examples/`, as far as they can be tried without a
//! cluster: they are valid, and what they would run runs here in two local
//! processes: the Redis, the configuration, the readiness probe, the swap of a
//! ConfigMap's symbolic link, the end of a pod.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::redis::Redis;
use crate::harness::request::{Ask, get};
use crate::harness::{Gateway, Origin, PASSWORD, PATIENCE, Setup, Target, basic, eventually};

const REDIS_PASSWORD: &str = "change-me";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs `tests/manifests.py`.
fn manifests(arguments: &[&str]) -> String {
    let python = root().join("tests/.venv/bin/python");
    let output = Command::new(&python).arg(root().join("tests/manifests.py")).args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run {} ({error}): run .ci/install-test-deps", python.display())
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The documents of a file.
fn documents(file: &str) -> Vec<Value> {
    serde_json::from_str(&manifests(&["show", file])).expect("a list of documents")
}

fn document(file: &str, kind: &str, name: &str) -> Value {
    let is = |each: &Value| each["kind"] == kind && each["metadata"]["name"] == name;
    documents(file).into_iter().find(is).unwrap_or_else(|| panic!("no {kind} {name} in {file}"))
}

fn container(file: &str, name: &str) -> Value {
    document(file, "Deployment", name)["spec"]["template"]["spec"]["containers"][0].clone()
}

fn words(list: &Value) -> Vec<String> {
    let words = list.as_array().expect("a list").iter();
    words.map(|word| word.as_str().expect("a word").to_owned()).collect()
}

#[test]
fn manifests_are_valid() {
    let checked = manifests(&["check"]);
    for kind in [
        "Deployment moorgate:",
        "PodDisruptionBudget moorgate:",
        "ConfigMap moorgate-pools:",
        "compose.yaml:",
    ] {
        assert!(checked.contains(kind), "{kind} is not checked: {checked}");
    }
}

/// A Redis that a manifest's command runs, at an address of its own.
fn redis_of(command: &[String]) -> Redis {
    let [shell, flag, script] = command else { panic!("{command:?} is no shell's script") };
    assert_eq!((&**shell, &**flag), ("sh", "-c"));
    assert!(script.contains("--dir /data "), "its data are on the volume: {script}");
    Redis::of_shell(script, "REDIS_PASSWORD", REDIS_PASSWORD)
}

/// A volume of a ConfigMap, as the kubelet keeps it: files are links through
/// `..data`, which is swapped.
struct Volume(PathBuf);

impl Volume {
    fn mount(at: PathBuf, data: &Value) -> Self {
        fs::create_dir_all(&at).unwrap();
        let volume = Self(at);
        volume.swap(data);
        for name in data.as_object().expect("data").keys() {
            symlink(Path::new("..data").join(name), volume.0.join(name)).unwrap();
        }
        volume
    }

    fn swap(&self, data: &Value) {
        let count = fs::read_dir(&self.0).unwrap().count();
        let folder = self.0.join(format!("..2026_{count}"));
        fs::create_dir(&folder).unwrap();
        for (name, text) in data.as_object().expect("data") {
            fs::write(folder.join(name), text.as_str().expect("a text")).unwrap();
        }
        let link = self.0.join("..data_tmp");
        symlink(folder.file_name().unwrap(), &link).unwrap();
        fs::rename(link, self.0.join("..data")).unwrap();
    }
}

/// A manifest's configuration, with what must differ on one host: where it
/// listens, where the store is, and that targets may be on loopback.
fn local(text: &str, redis: &Redis, store: &str, pools: &str) -> Value {
    let mut config: Value = serde_json::from_str(text).expect("JSON");
    config["listeners"][0]["bind"] = "127.0.0.1:0".into();
    config["admin"]["bind"] = "127.0.0.1:0".into();
    config["targets"] = json!({ "private": true });
    let url = config["sessions"]["store"].as_str().expect("a store").to_owned();
    assert!(url.contains(&format!("@{store}:6379/")), "the Service's name: {url}");
    config["sessions"]["store"] = url.replace(&format!("{store}:6379"), &redis.host()).into();
    assert_eq!(config["pools"], pools);
    config["pools"] = "pools".into();
    config
}

/// Runs it in a folder of its own, with its two volumes.
fn gateway(config: &Value, pools: &Value) -> (Gateway, Volume) {
    let dir = tempfile::Builder::new().prefix("moorgate-it-").tempdir().unwrap();
    Volume::mount(dir.path().join("config"), &json!({ "moorgate.json": config.to_string() }));
    symlink("config/moorgate.json", dir.path().join("moorgate.json")).unwrap();
    let volume = Volume::mount(dir.path().join("pools"), pools);
    let mut setup = Setup::new(json!([]));
    setup.config = config.clone();
    let setup = setup
        .env("ACME_PASSWORD", PASSWORD)
        .env("MOORGATE_ADMIN_TOKEN", "an-admin-token")
        .env("REDIS_PASSWORD", REDIS_PASSWORD);
    (Gateway::start_in(dir, setup), volume)
}

/// Runs a probe's or a hook's command as the kubelet would; whether it says
/// yes.
fn run(command: &Value, gateway: &Gateway) -> bool {
    let words: Vec<_> = words(&command["exec"]["command"])
        .into_iter()
        .map(|word| word.replace("/127.0.0.1/9090", &format!("/127.0.0.1/{}", gateway.admin().port())))
        .collect();
    let status = Command::new(&words[0]).args(&words[1..]).stderr(Stdio::null()).status();
    status.unwrap_or_else(|error| panic!("{words:?}: {error}")).success()
}

/// Sessions have one exit on both.
fn agree(gateways: [&Gateway; 2], origin: &Origin, run: &str) {
    for n in 0..12 {
        let name = format!("acme-session-{run}{n}");
        let made = gateways[n % 2].get(&name, &origin.url("/ip")).ok();
        let held = gateways[(n + 1) % 2].get(&name, &origin.url("/ip")).ok();
        assert_eq!((made.news(), held.news(), held.exit()), ("new", "held", made.exit()), "{name}");
    }
}

#[test]
fn what_the_kubernetes_manifests_run_runs() {
    const MOORGATE: &str = "examples/kubernetes/moorgate.yaml";
    const CONFIG: &str = "examples/kubernetes/config.yaml";
    let pod = document(MOORGATE, "Deployment", "moorgate")["spec"]["template"]["spec"].clone();
    let container = container(MOORGATE, "moorgate");
    // Every variable comes out of a secret that is there.
    let secrets = document("examples/kubernetes/secrets.yaml", "Secret", "moorgate");
    for variable in container["env"].as_array().expect("variables") {
        let from = &variable["valueFrom"]["secretKeyRef"];
        let key = from["key"].as_str().expect("a key");
        assert!(from["name"] == "moorgate" && secrets["stringData"][key].is_string(), "{variable}");
    }
    let redis =
        redis_of(&words(&self::container("examples/kubernetes/redis.yaml", "moorgate-redis")["command"]));
    let text = document(CONFIG, "ConfigMap", "moorgate-config")["data"]["moorgate.json"].clone();
    let pools = document(CONFIG, "ConfigMap", "moorgate-pools")["data"].clone();
    let config = local(text.as_str().expect("a text"), &redis, "moorgate-redis", "/etc/moorgate-pools");
    let (one, volume) = gateway(&config, &pools);
    let (two, other_volume) = gateway(&config, &pools);
    let (origin, probe) = (Origin::start(), &container["readinessProbe"]);
    for gateway in [&one, &two] {
        assert!(run(probe, gateway) && run(&container["livenessProbe"], gateway), "ready and alive");
    }
    agree([&one, &two], &origin, "first");

    // `kubectl apply` of other pools: each kubelet swaps its link.
    let more = |exits: Value| json!({ "us.json": json!({ "pools": [{ "name": "us", "exits": exits }] }).to_string() });
    let exits = more(
        json!(["127.0.0.2", "127.0.0.3", "127.0.0.4", { "id": "own", "via": "direct", "state": "drain" }]),
    );
    for (gateway, volume) in [(&one, &volume), (&two, &other_volume)] {
        let mark = gateway.log.mark();
        volume.swap(&exits);
        gateway.log.wait_after(mark, "pools reloaded", |line| line.has("pools reloaded"));
    }
    agree([&one, &two], &origin, "second");
    assert_eq!(
        two.get("acme-session-first0", &origin.url("/ip")).ok().exit(),
        "us/own",
        "it stays where it was"
    );
    // A mistake changes nothing, and is told.
    let mark = one.log.mark();
    volume.swap(&json!({ "us.json": "{ \"pools\": [" }));
    one.log.wait_after(mark, "a mistake", |line| line.has("pools not reloaded"));
    agree([&one, &two], &origin, "third");

    // A pod ends: preStop, SIGTERM, drain; what is open goes on meanwhile.
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().expect("seconds");
    let hook = words(&container["lifecycle"]["preStop"]["exec"]["command"]);
    let drain = seconds(config["timeouts"]["drain"].as_str().expect("a duration"));
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    assert_eq!(hook[0], "sleep");
    assert!(grace > seconds(&hook[1]) + drain, "{grace} s are enough for {hook:?} and {drain} s of drain");
    let target = Target::open();
    let (mut tunnel, _) = one.tunnel("acme-session-open", target.address);
    let mut far = target.accept();
    let exit = two.get("acme-session-open", &origin.url("/ip")).ok().exit();
    let shorter = json!({ "exec": { "command": ["sleep", "0.2"] } });
    assert!(run(&shorter, &one), "its time cut short");
    assert!(run(probe, &one), "until SIGTERM it serves whoever still comes");
    one.terminate();
    eventually("it is ready no more", PATIENCE, || (!run(probe, &one)).then_some(()));
    assert!(one.try_wait().is_none(), "it waits for its tunnels");
    tunnel.echo_through(&mut far);
    let mut client = two.client();
    let held = client.send(get(&origin.url("/ip"), &basic("acme-session-open"))).answer("GET").ok();
    assert_eq!((held.news(), held.exit()), ("held", exit));
    drop((tunnel, far));
    assert_eq!(one.wait().code(), Some(0));
}

#[test]
fn what_the_compose_file_runs_runs() {
    let compose = documents("examples/two-nodes/compose.yaml").swap_remove(0);
    let services = compose["services"].as_object().expect("services");
    // Compose writes a dollar twice.
    let command =
        words(&services["redis"]["command"]).iter().map(|word| word.replace("$$", "$")).collect::<Vec<_>>();
    let redis = redis_of(&command);
    let read = |file: &str| fs::read_to_string(root().join("examples/two-nodes").join(file)).unwrap();
    let config = local(&read("moorgate.json"), &redis, "redis", "pools");
    let pools = json!({ "exits.json": read("pools/exits.json") });
    let nodes: Vec<_> = services.keys().filter(|name| name.starts_with("gateway-")).collect();
    assert_eq!(nodes.len(), 2);
    for name in nodes {
        let service = &services[name];
        assert_eq!(words(&service["command"]), ["run", "--config", "/etc/moorgate/two-nodes/moorgate.json"]);
        for variable in ["ACME_PASSWORD", "MOORGATE_ADMIN_TOKEN", "REDIS_PASSWORD"] {
            assert!(service["environment"][variable].is_string(), "{name} has {variable}");
        }
    }
    let ((one, _one), (two, _two)) = (gateway(&config, &pools), gateway(&config, &pools));
    agree([&one, &two], &Origin::start(), "s");
}
