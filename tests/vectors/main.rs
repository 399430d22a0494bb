//! Our readers beside others, over bytes that were collected: the outside
//! world's smuggling shapes, and what the fuzz targets have kept.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a test fails by panicking")]

mod corpus;
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;
mod rows;
mod verdicts;
