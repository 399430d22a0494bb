//! The steps at the store.
//!
//! Owns: the scripts, how each is called, and how its reply is read.
//! Must not know: connections; what a reply means for a node.

use std::sync::LazyLock;

use redis::{Cmd, Script as Lua, Value, cmd};

/// A step.
pub(super) struct Script {
    text: String,
    sha: String,
}

impl Script {
    fn new(text: String) -> Self {
        let sha = Lua::new(&text).get_hash().to_owned();
        Self { text, sha }
    }

    /// Calls it by its digest, which the store knows once it was called by
    /// its text.
    pub(super) fn by_digest(&self, keys: &[&[u8]], arguments: &[&[u8]]) -> Cmd {
        call("EVALSHA", &self.sha, keys, arguments)
    }

    /// Calls it by its text.
    pub(super) fn by_text(&self, keys: &[&[u8]], arguments: &[&[u8]]) -> Cmd {
        call("EVAL", &self.text, keys, arguments)
    }

    /// As the store is told it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

fn call(how: &str, script: &str, keys: &[&[u8]], arguments: &[&[u8]]) -> Cmd {
    let mut command = cmd(how);
    command.arg(script).arg(keys.len());
    for part in keys.iter().chain(arguments) {
        command.arg(*part);
    }
    command
}

/// Each of its files, one behind the other.
macro_rules! steps {
    ($($name:ident $($file:literal)+;)*) => {$(
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!($file)),+).to_owned()));
    )*};
}

steps! {
    LOOK "lua/prelude.lua" "lua/look.lua";
    CLAIM "lua/prelude.lua" "lua/rooms.lua" "lua/claim.lua";
    REPIN "lua/prelude.lua" "lua/repin.lua";
    SAY "lua/prelude.lua" "lua/say.lua";
    TOUCH "lua/prelude.lua" "lua/touch.lua";
    EXTEND "lua/prelude.lua" "lua/extend.lua";
    END "lua/prelude.lua" "lua/end.lua";
    RESTORE "lua/prelude.lua" "lua/restore.lua";
    ENTER "lua/enter.lua";
    RESERVE "lua/rooms.lua" "lua/reserve.lua";
    RELEASE "lua/rooms.lua" "lua/release.lua";
    COUNT "lua/count.lua";
    BYTES "lua/bytes.lua";
}

/// Every script, so that a connection can make the store know them.
pub(super) fn all() -> impl Iterator<Item = &'static Script> {
    let pins = [&LOOK, &CLAIM, &REPIN, &SAY, &TOUCH, &EXTEND, &END, &RESTORE];
    let others = [&ENTER, &RESERVE, &RELEASE, &COUNT, &BYTES];
    pins.into_iter().chain(others).map(|script| &**script)
}

/// What a step said: a number, when, and a value.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) code: i64,
    /// The store's time, in µs.
    pub(super) at_us: u64,
    pub(super) value: Option<Vec<u8>>,
}

impl Reply {
    /// `None`: it is no reply of these scripts.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let mut parts = parts.iter();
        let Value::Int(code) = parts.next()? else { return None };
        let at_us = match parts.next() {
            None => 0,
            Some(Value::Int(at_us)) => u64::try_from(*at_us).ok()?,
            Some(_) => return None,
        };
        let value = match parts.next() {
            None => None,
            Some(Value::BulkString(bytes)) => Some(bytes.clone()),
            Some(_) => return None,
        };
        Some(Self { code: *code, at_us, value })
    }

    /// The store's time, in ms.
    pub(super) fn at_ms(&self) -> u64 {
        self.at_us / 1000
    }
}
