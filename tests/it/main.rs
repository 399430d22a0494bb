//! Integration tests: the real binary between real peers, on loopback alone.
//!
//! One file a capability. What they stand on is in [`harness`]: the gateway
//! as a process with its own folder, a raw client, an origin, upstream
//! proxies. Needs the Debian packages `squid`, `tinyproxy`, `microsocks`
//! and `prometheus` (promtool),
//! and user namespaces for IPv6 prefixes and full disks.
//! proxies. Needs the Debian packages `squid`, `tinyproxy`, `microsocks`,
//! `redis-server` and `redis-sentinel`, and user namespaces for IPv6 prefixes and full disks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test fails by panicking, measures real time, and publishes nothing"
)]

mod access_log;
mod admin;
mod answers;
mod blame;
mod bodies;
mod broken_off;
mod bulk;
mod claim;
mod cli;
mod cli_remote;
mod connect;
mod crash;
mod cves;
mod dashboard;
mod drain;
mod exits;
mod expiry;
mod failover;
mod fields;
mod figures;
mod grammar;
mod greedy;
mod harness;
mod hop_by_hop;
mod http2;
mod http2_frames;
mod injection;
mod instruments;
mod limits;
mod manifests;
mod listeners;
mod metrics;
mod plain;
mod policy;
mod pools;
mod ports;
mod prefixes;
mod probes;
mod proxied;
mod rebinding;
mod refused;
mod reload;
mod resources;
mod rotation;
#[path = "../vectors/rows.rs"]
mod rows;
mod secrets;
mod shared;
mod shared_faults;
mod shared_kinds;
mod shared_limits;
mod slow;
mod smuggling;
mod socks;
mod steering;
mod systemd;
mod targets;
mod tls;
mod tokens;
mod upgrade;
mod user_limits;
mod users;
