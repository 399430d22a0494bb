//! Rust's reqwest through Moorgate.
//!
//!     cargo run --manifest-path examples/rust/Cargo.toml -- http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
//!
//! The target should answer with the address that it sees.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{Client, Proxy, Response, Url};
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, proxy, target] = &arguments[..] else {
        return Err("usage: moorgate-example-reqwest http://USER:SECRET@HOST:PORT TARGET_URL".into());
    };
    let gateway = Gateway(Url::parse(proxy)?);
    let user = gateway.0.username();

    // A session is made by its name: two requests with one name have one exit.
    let session = format!("{user}-session-{:x}-ttl-10m", nanos());
    let sticky = gateway.client(&session)?;
    println!("sticky: {} {}", get(&sticky, target).await?, get(&sticky, target).await?);

    // Where the site has had enough of that exit by now, the session moves.
    println!("renewed: {}", fetch(&gateway, &session, target).await?);

    // Without a session, each request leaves by the next exit of the pool.
    let (one, other) = (gateway.client(user)?, gateway.client(user)?);
    println!("rotating: {} {}", get(&one, target).await?, get(&other, target).await?);
    Ok(())
}

/// A gateway's address and one user's credential.
struct Gateway(Url);

impl Gateway {
    /// A client whose every request is under this proxy username. It keeps
    /// tunnels to https targets, and a tunnel keeps its exit: one client for
    /// each session, and for rotating requests a client for each of them.
    fn client(&self, username: &str) -> Result<Client> {
        let mut proxy = self.0.clone();
        // reqwest percent-decodes what stands in the URL; the url crate has
        // encoded it.
        proxy.set_username(username).map_err(|()| "the proxy's URL has no host")?;
        Ok(Client::builder().proxy(Proxy::all(proxy)?).timeout(Duration::from_secs(30)).build()?)
    }

    /// Says that the session's exit is no good for the target: the session
    /// moves.
    async fn report(&self, session: &str, target: &str, reason: &str) -> Result<()> {
        let url = "http://moorgate.internal/session/report";
        let told = json!({ "target": target, "reason": reason });
        ours(self.client(session)?.post(url).json(&told).send().await?).await?;
        Ok(())
    }
}

/// A page of a session; blocked, its exit is reported, and it is asked for
/// again by another.
async fn fetch(gateway: &Gateway, session: &str, target: &str) -> Result<String> {
    for _ in 0..3 {
        // A new client, for a tunnel of the old one would keep the old exit.
        let response = ours(gateway.client(session)?.get(target).send().await?).await?;
        match response.status().as_u16() {
            status @ (401 | 403 | 429) => {
                gateway.report(session, target, &format!("status {status}")).await?;
            }
            _ => return Ok(response.error_for_status()?.text().await?.trim().to_owned()),
        }
    }
    Err(format!("{target} blocks every exit that was tried").into())
}

async fn get(client: &Client, target: &str) -> Result<String> {
    let response = ours(client.get(target).send().await?).await?;
    Ok(response.error_for_status()?.text().await?.trim().to_owned())
}

/// The response, unless the gateway made it to refuse the request.
async fn ours(response: Response) -> Result<Response> {
    match response.headers().contains_key("moorgate-error") {
        false => Ok(response),
        true => Err(format!("the gateway refused: {}", response.text().await?).into()),
    }
}

/// Enough for a name that nothing else has.
fn nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}
