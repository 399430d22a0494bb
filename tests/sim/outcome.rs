//! How a request ends, and that it is told to the history.

use moorgate::core::code::Code;
use moorgate::core::pin::{News, Pin};

use super::history::{Answer, Failed};
use super::request::Request;
use super::stage::Stage;

impl Request {
    pub fn succeed(&mut self, pin: &Pin, stage: &mut Stage<'_>) {
        let news = stage.store.announce(self.key, pin.version).unwrap_or(News::Held);
        let expires_in_s = pin.expires.since(stage.store.now()).as_secs();
        stage.history.count(news.word());
        let (who, exit) = (&self.who, &pin.exit);
        stage
            .history
            .tell(|| format!("{who} {}: {news:?} on {exit}, expires-in={expires_in_s}", self.number));
        let tag = self.tag.expect("a pin was seen");
        let survives = stage.store.survives(self.key, pin);
        let answer = Answer {
            request: self.number,
            began: self.began_at,
            turned: self.turned,
            named: self.ask.exit.is_some(),
            tag,
            news,
            expires_in_s,
            pin,
            survives,
        };
        stage.history.answered(who, &answer);
    }

    pub fn fail(&mut self, code: Code, stage: &mut Stage<'_>) {
        let who = &self.who;
        stage.history.count(code.name());
        stage.history.tell(|| format!("{who} {}: {code}", self.number));
        stage.history.failed(
            who,
            &Failed {
                code,
                tag: self.tag,
                began: self.began,
                looked: self.looked,
                failover: self.ask.failover,
                filter: &self.ask.filter,
                named: self.ask.exit.is_some(),
                moves: self.moves,
                failed: &self.failed,
            },
        );
    }
}
