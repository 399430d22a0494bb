//! What goes wrong, and what is done on demand.

use moorgate::core::session::SessionKey;
use rand::RngExt;

use super::mistake::Mistake;
use super::node::Node;
use super::request::State;
use super::server::Ask;
use super::world::{NODES, SESSIONS, World, pin};

impl World {
    pub fn end_one(&mut self) {
        let (n, key) = (self.rng.random_range(0..NODES), pin(self.rng.random_range(0..SESSIONS), 0).key());
        self.send(n, 0, key, Ask::End);
    }

    /// A node's link is lost, and both sides know.
    pub fn cut(&mut self) {
        let n = self.rng.random_range(0..NODES);
        if self.nodes[n].connected {
            self.history.count("a link cut");
            self.lose(n);
        }
    }

    /// Nothing passes on a node's link any more.
    pub fn hush(&mut self) {
        let n = self.rng.random_range(0..NODES);
        if self.nodes[n].connected && !self.nodes[n].silent {
            self.history.count("a link silent");
            self.tell(format!("node {n} hears nothing more"));
            self.nodes[n].silent = true;
        }
    }

    /// A node's process is stopped for a while; what comes waits.
    pub fn stop(&mut self) {
        let n = self.rng.random_range(0..NODES);
        self.history.count("a stop");
        self.tell(format!("node {n} stops"));
        self.nodes[n].stopped = self.now + self.rng.random_range(100..5000);
        for request in &mut self.requests {
            request.away |= request.node == n && !matches!(request.state, State::Begun);
        }
    }

    /// The store's clock is set, forward or back.
    pub fn step_clock(&mut self) {
        let by = self.rng.random_range(-3000..3000_i64);
        self.history.count("a step of the store's clock");
        self.tell(format!("the store's clock steps by {by} ms"));
        // It may end the lease of a node that goes by it yet.
        self.history.leases_end(self.store_time().as_ms());
        self.skew += by;
        self.stepped = (self.now, by.max(0).cast_unsigned());
        // What was made in a time that comes again may look later than it is.
        let store = self.store_time().as_ms();
        self.history.comes_again(store);
    }

    /// What a node has said, and cannot get through to the store.
    pub fn doubt_untold(&mut self, key: SessionKey) {
        let muted = |node: &Node| node.silent || node.stopped > self.now;
        let untold = |node: &Node| muted(node) && node.unsaid.iter().any(|(of, _)| *of == key);
        if self.nodes.iter().any(untold) {
            self.history.doubt(std::iter::once(key));
        }
    }

    pub fn runs(&self, n: usize) -> bool {
        self.now >= self.nodes[n].stopped
    }

    pub fn kill(&mut self) {
        let n = self.rng.random_range(0..NODES);
        self.history.count("a kill");
        self.tell(format!("node {n} dies"));
        let untold: Vec<_> = self.nodes[n].unsaid.iter().map(|(key, _)| *key).collect();
        self.history.doubt(untold.into_iter());
        self.nodes[n] = Node::new(self.rng.random());
        for request in &mut self.requests {
            if request.node == n {
                request.state = State::Done;
            }
        }
    }

    /// The connection of a node is gone; some of what it asked was done.
    pub fn lose(&mut self, n: usize) {
        self.tell(format!("node {n} loses its link"));
        if !self.nodes[n].silent {
            for _ in 0..self.rng.random_range(0..3) {
                self.serve(n);
            }
        }
        let untold: Vec<_> = self.nodes[n].unsaid.drain(..).map(|(key, _)| key).collect();
        self.history.doubt(untold.into_iter());
        let node = &mut self.nodes[n];
        (node.connected, node.silent) = (false, false);
        node.questions.clear();
        node.incoming.clear();
        if self.mistake != Some(Mistake::EpochGoesOn) {
            node.epoch += 1;
        }
        for at in 0..self.requests.len() {
            if self.requests[at].node == n {
                self.away(at);
            }
        }
    }
}
