//! A profile's examples, tried.
//!
//! Owns: that each means what is written beside it.
//! Must not know: how a credential is read.

use super::Reading;
use crate::config::locate::NodeId;
use crate::config::profiles::{ExampleEntry, MeansEntry, ProfileEntry};
use crate::core::profile::Profile;
use crate::core::profile::cut::{Cut, Who};
use crate::core::username::Parameters;

/// Complains of each example that means something else.
pub(super) fn tried(reading: &mut Reading<'_>, _node: NodeId, written: &ProfileEntry, profile: &Profile) {
    for later in written.examples.iter().flatten() {
        let Some(example) = later.read(reading.document, reading.findings) else { continue };
        if let Err(message) = try_one(profile, &example) {
            reading.complain(later.node, &["credential"], message);
        }
    }
}

fn try_one(profile: &Profile, example: &ExampleEntry) -> Result<(), String> {
    let Some((username, password)) = example.credential.split_once(':') else {
        return Err("expected a username, a colon and a password".to_owned());
    };
    let secret = example.secret.as_deref().unwrap_or(password);
    let known = |who: Who<'_>| match who {
        Who::Name(name) => name == example.user,
        Who::Secret(given) => given == secret,
    };
    let Some(cut) = profile.cut(username, password, known) else {
        return Err("the example does not name its \"user\"".to_owned());
    };
    if cut.secret != secret {
        return Err("the example's \"secret\" is another part of its password".to_owned());
    }
    compare(profile, &cut, example)
}

fn compare(profile: &Profile, cut: &Cut<'_>, example: &ExampleEntry) -> Result<(), String> {
    match (profile.read(&cut.tail), &example.means, &example.wrong) {
        (_, None, None) | (_, Some(_), Some(_)) => Err("expected either \"means\" or \"wrong\"".to_owned()),
        (Ok(said), Some(means), None) => match differs(&said, means) {
            None => Ok(()),
            Some(what) => Err(format!("the example says another {what}")),
        },
        (Err(error), Some(_), None) => {
            let at = cut.place(error.at);
            Err(format!("the example is refused at byte {at}: {}", error.fault))
        }
        (Ok(_), None, Some(_)) => Err("the example is taken".to_owned()),
        (Err(error), None, Some(wrong)) => {
            let (code, at) = (error.fault.code().name(), cut.place(error.at));
            match code == wrong.code && u32::try_from(at).is_ok_and(|at| at == wrong.at.0) {
                true => Ok(()),
                false => Err(format!("the example is refused with {code} at byte {at}")),
            }
        }
    }
}

/// What is not as it is written.
fn differs(said: &Parameters, means: &MeansEntry) -> Option<&'static str> {
    let text = |name: &crate::core::pool::NameRef| name.as_str().to_owned();
    let mut labels: Vec<_> = said.labels.iter().map(|(key, value)| (*key, value.to_string())).collect();
    labels.sort();
    let meant = means.labels.as_ref();
    let meant = meant.into_iter().flat_map(|labels| labels.iter()).map(|(key, label)| (key, label.0.clone()));
    let checks = [
        ("session", said.session.as_ref().map(|id| id.as_str()) == means.session.as_deref()),
        ("ttl", said.ttl.map(|ttl| ttl.as_secs()) == means.ttl_seconds.map(|ttl| ttl.0)),
        ("idle time", said.idle.map(|idle| idle.as_secs()) == means.idle_seconds.map(|idle| idle.0)),
        ("pool", said.pool.as_ref().map(text) == means.pool),
        ("exit", said.exit.as_ref().map(text) == means.exit),
        ("failover", said.failover == means.failover.map(Into::into)),
        ("label", labels.into_iter().eq(meant)),
    ];
    checks.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
}
