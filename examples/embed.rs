//! A gateway inside a program of your own.
//!
//!     cargo run --example embed [CONFIG]
//!
//! It runs until Ctrl-C, and then drains. Without CONFIG everything has its
//! default, as for `moorgate run`.

use std::error::Error;

use moorgate::{Config, ConfigSource, Gateway};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let source = ConfigSource { config: std::env::args_os().nth(1).map(Into::into), ..Default::default() };
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

    interrupt.recv().await;
    running.drain();
    running.wait().await;
    println!("drained");
    Ok(())
}
