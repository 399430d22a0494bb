//! Wrong credentials, counted for each client network.
//!
//! Owns: how many failures a network has left.
//! Must not know: which user was tried, what a credential is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::core::code::Code;
use crate::core::fault::Fault;

/// Failed logins for each IPv4 address or IPv6 /64.
pub(crate) struct Throttle {
    limiter: Option<RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>>,
    clock: DefaultClock,
    /// Networks that have none left, and until when.
    spent: Mutex<HashMap<IpAddr, Instant>>,
}

impl Throttle {
    /// So many failures a minute; 0: any number.
    pub(crate) fn new(per_minute: u32) -> Self {
        let limiter = NonZeroU32::new(per_minute).map(|n| RateLimiter::hashmap(Quota::per_minute(n)));
        Self { limiter, clock: DefaultClock::default(), spent: Mutex::default() }
    }

    /// Whether the client's network has none left.
    pub(crate) fn is_spent(&self, client: IpAddr) -> bool {
        self.spent().get(&network(client)).is_some_and(|until| *until > Instant::now())
    }

    /// Counts a wrong credential.
    ///
    /// # Errors
    /// `auth_throttled` where the network has none left.
    pub(crate) fn failed(&self, client: IpAddr) -> Result<(), Fault> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.check_key(&network(client)).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now()).max(Duration::from_secs(1));
            self.spent().insert(network(client), Instant::now() + wait);
            let detail = "too many wrong credentials from this address: correct them, then wait";
            Fault::new(Code::AuthThrottled, detail).retry_after(wait)
        })
    }

    /// Forgets networks that have all their failures back.
    pub(crate) fn sweep(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        let now = Instant::now();
        let mut spent = self.spent();
        spent.retain(|_, until| *until > now);
        spent.shrink_to_fit();
    }

    fn spent(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One host of IPv6 has a whole /64.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_so_many_failures_a_minute() {
        let throttle = Throttle::new(3);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for n in 1..=3 {
            assert!(throttle.failed(ip(&format!("2001:db8::{n}"))).is_ok());
        }
        assert!(!throttle.is_spent(ip("2001:db8::4")));
        let fault = throttle.failed(ip("2001:db8::4")).unwrap_err();
        assert!(throttle.is_spent(ip("2001:db8::5")) && !throttle.is_spent(ip("2001:db8:0:1::1")));
        assert_eq!(fault.code(), Code::AuthThrottled);
        assert!((1..=20).contains(&fault.retry_after_s().unwrap()));
        assert!(throttle.failed(ip("2001:db8:0:1::1")).is_ok());
        assert!(throttle.failed(ip("192.0.2.1")).is_ok());
        throttle.sweep();
        assert!(throttle.is_spent(ip("2001:db8::5")), "a sweep forgave");
        assert!(throttle.failed(ip("2001:db8::4")).is_err(), "a sweep forgave");
    }

    #[test]
    fn zero_means_no_limit() {
        let throttle = Throttle::new(0);
        assert!((0..1000).all(|_| throttle.failed(IpAddr::from([192, 0, 2, 1])).is_ok()));
    }
}
