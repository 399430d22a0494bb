//! The server side of SOCKS5, as an upstream of our own.
//!
//! Owns: RFC 1928 and RFC 1929 as far as CONNECT.
//! Must not know: who asks.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::upstream::{Mood, Shared, relay};

/// One client of the upstream.
pub(super) async fn serve(mut client: TcpStream, shared: &Shared) -> Option<()> {
    let credential = greet(&mut client, shared).await?;
    let target = request(&mut client).await?;
    shared.record(&format!("{credential}{target}"));
    shared.behave(&mut client).await?;
    if let Mood::Reply(reply) = shared.mood() {
        answer(&mut client, reply).await?;
        return None;
    }
    let Some(mut far) = shared.reach(&target).await else {
        answer(&mut client, 5).await?;
        return None;
    };
    answer(&mut client, 0).await?;
    relay(&mut client, &mut far, Vec::new(), shared).await
}

/// Agrees on a method; gives `user:password@` where one was wanted.
async fn greet(client: &mut TcpStream, shared: &Shared) -> Option<String> {
    let [5, count] = bytes(client).await? else { return None };
    let mut methods = vec![0; usize::from(count)];
    client.read_exact(&mut methods).await.ok()?;
    let wanted = if shared.credential.is_some() { 2 } else { 0 };
    if !methods.contains(&wanted) {
        shared.record("no method");
        client.write_all(&[5, 0xff]).await.ok()?;
        return None;
    }
    client.write_all(&[5, wanted]).await.ok()?;
    let Some((user, password)) = &shared.credential else { return Some(String::new()) };
    let [1] = bytes(client).await? else { return None };
    let given = (text(client).await?, text(client).await?);
    let right = given == (user.clone(), password.clone());
    client.write_all(&[1, u8::from(!right)]).await.ok()?;
    if !right {
        shared.record("wrong login");
        return None;
    }
    Some(format!("{user}:{password}@"))
}

/// Reads a CONNECT; gives `host:port`, a name as it was sent.
async fn request(client: &mut TcpStream) -> Option<String> {
    let [5, 1, 0, kind] = bytes(client).await? else { return None };
    let host = match kind {
        1 => std::net::Ipv4Addr::from(bytes::<4>(client).await?).to_string(),
        3 => text(client).await?,
        4 => format!("[{}]", std::net::Ipv6Addr::from(bytes::<16>(client).await?)),
        _ => return None,
    };
    Some(format!("{host}:{}", u16::from_be_bytes(bytes(client).await?)))
}

async fn answer(client: &mut TcpStream, reply: u8) -> Option<()> {
    client.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()
}

async fn bytes<const N: usize>(client: &mut TcpStream) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

async fn text(client: &mut TcpStream) -> Option<String> {
    let [length] = bytes(client).await?;
    let mut text = vec![0; usize::from(length)];
    client.read_exact(&mut text).await.ok()?;
    String::from_utf8(text).ok()
}
