//! An operator: requests to the admin listener.
//!
//! Owns: how one is written, and answers as JSON.
//! Must not know: what the API means.

use serde_json::Value;

use super::client::{Answer, Client};
use super::gateway::Gateway;

/// A request to the admin listener, with these fields and this body.
#[track_caller]
pub fn ask(gateway: &Gateway, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let host = gateway.admin();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}{length}Connection: close\r\n\r\n");
    Client::open(host).send(head + body).answer(method)
}

/// What is at a path.
#[track_caller]
pub fn look(gateway: &Gateway, path: &str) -> Value {
    json(&ask(gateway, "GET", path, "", "").ok())
}

/// Does something that needs no body.
#[track_caller]
pub fn act(gateway: &Gateway, method: &str, path: &str) -> Value {
    json(&ask(gateway, method, path, "", "").ok())
}

/// Does something, with a body.
#[track_caller]
pub fn tell(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    ask(gateway, "POST", path, "Content-Type: application/json\r\n", &body.to_string())
}

/// The one session of this name.
#[track_caller]
pub fn session(gateway: &Gateway, name: &str) -> Value {
    let list = look(gateway, &format!("/v1/sessions?session={name}"));
    assert_eq!(list["sessions"].as_array().map(Vec::len), Some(1), "{list:#}");
    list["sessions"][0].clone()
}

/// An answer's body.
#[track_caller]
pub fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("no JSON ({error}): {answer:?}"))
}

/// The answer is this problem, and says what to change.
#[track_caller]
pub fn is_problem(answer: &Answer, status: u16, code: &str) -> Value {
    let problem = json(answer);
    assert_eq!((answer.status, problem["code"].as_str()), (status, Some(code)), "{problem:#}");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    assert_eq!(problem["type"], format!("urn:moorgate:admin:{code}"));
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{problem:#}");
    problem
}
