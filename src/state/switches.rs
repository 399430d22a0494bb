//! What the operator has switched.
//!
//! Owns: [`Switches`], for how long each holds, and pools as they are with
//! them.
//! Must not know: where they are kept, who switches.
//!
//! A switch holds until the file's own word for that exit is another than it
//! was when the switch was made, or until the exit is switched to what the
//! file says. An exit that is away for a while comes back as it was switched.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::exit::Mode;
use crate::core::pin::ExitName;
use crate::core::pool::{Pool, Pools};

/// An exit's switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// What the operator wants of the exit.
    pub to: Mode,
    /// What its file said then.
    pub written: Mode,
}

/// All switches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches(BTreeMap<ExitName, Switch>);

impl Switches {
    /// From what was kept.
    pub fn new(switches: impl IntoIterator<Item = (ExitName, Switch)>) -> Self {
        Self(switches.into_iter().collect())
    }

    /// In the order of their exits' names.
    pub fn iter(&self) -> impl Iterator<Item = (&ExitName, Switch)> {
        self.0.iter().map(|(name, switch)| (name, *switch))
    }

    /// The exit's switch.
    pub fn get(&self, name: &ExitName) -> Option<Switch> {
        self.0.get(name).copied()
    }

    /// What the file says of an exit that is in this mode now.
    pub fn written(&self, name: &ExitName, is: Mode) -> Mode {
        self.0.get(name).map_or(is, |switch| switch.written)
    }

    /// Switches an exit that is in mode `is`; `None`: back to what its file
    /// says. Which mode it is in then.
    pub fn set(&mut self, name: &ExitName, is: Mode, to: Option<Mode>) -> Mode {
        let written = self.written(name, is);
        let to = to.unwrap_or(written);
        if to == written {
            self.0.remove(name);
        } else {
            self.0.insert(name.clone(), Switch { to, written });
        }
        to
    }

    /// Drops those of which these files say otherwise than before.
    pub(super) fn settle(&mut self, pools: &Pools) {
        self.0.retain(|name, switch| {
            let exit = pools.pool(&name.pool).and_then(|pool| pool.exit(&name.id));
            exit.is_none_or(|exit| exit.mode == switch.written)
        });
    }

    /// The files' pools as they are with all this.
    pub(super) fn applied(&self, pools: &Pools) -> Pools {
        let mut by_pool = BTreeMap::<&str, Vec<(&str, Mode)>>::new();
        for (name, switch) in &self.0 {
            by_pool.entry(&*name.pool).or_default().push((&*name.id, switch.to));
        }
        let switched = |pool: &Arc<Pool>| match by_pool.get(&*pool.name) {
            None => pool.clone(),
            Some(switched) => {
                let places = switched.iter().filter_map(|(id, mode)| Some((pool.position(id)?, *mode)));
                Arc::new(pool.with_modes(places))
            }
        };
        Pools::new(pools.iter().map(switched).collect())
    }
}
