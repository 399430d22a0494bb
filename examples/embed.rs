//! A gateway inside a program of your own.
//!
//!     cargo run --example embed [CONFIG]
//!
//! With CONFIG it runs what that file says. Without, what [`own`] says: this
//! program's own choice of how exits are selected, and no file at all. It runs
//! until Ctrl-C, and then drains.

use std::error::Error;

use moorgate::{Config, ConfigSource, Gateway};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

/// Sessions are placed by consistent hashing, so that programs which agree on
/// the exits agree on the places without a word; they last an hour, and move to
/// an exit of the same address alone. Requests without one go where the fewest
/// connections are. A failure puts an exit aside for ten seconds.
fn own() -> ConfigSource {
    let config = json!({
        "listeners": [{ "bind": "127.0.0.1:0" }],
        "admin": null,
        "sessions": { "store": "memory", "default_ttl": "1h" },
        "targets": { "private": true },
    });
    let pools = json!({ "pools": [{
        "name": "own",
        "placement": "rendezvous",
        "rotation": "least_connections",
        "failover": "address",
        "health": { "eject_after": 1, "eject_for": "10s" },
        "exits": [
            { "id": "one", "via": "127.0.0.1", "weight": 2 },
            { "id": "two", "via": "127.0.0.2" },
        ],
    }] });
    ConfigSource::text(config.to_string()).with_pools_text(pools.to_string())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let source = std::env::args_os().nth(1).map_or_else(own, ConfigSource::file);
    let (config, warnings) = Config::load(&source)?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }

    // Listened for before anybody can know that we are there.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = Gateway::start(config).await?;
    for address in running.addresses() {
        println!("listening on {address}");
    }
    // Without users, the gateway makes one, and a secret for it.
    if let Some((user, secret)) = running.demo_user() {
        println!("user {user}, secret {}", secret.expose());
    }

    interrupt.recv().await;
    running.drain();
    running.wait().await;
    println!("drained");
    Ok(())
}
