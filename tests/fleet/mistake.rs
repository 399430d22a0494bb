//! Mistakes that are planted to see that they are found.

/// A mistake that is made on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A claim in an era that the node does not know of is decided.
    ErasAreIgnored,
    /// A move names whatever version there is.
    MovesCompareNothing,
    /// A pin that somebody has seen gives way at one failure.
    SeenIsReplaced,
    /// Another node says `new` while the maker may.
    LeaseIsIgnored,
    /// An end leaves nothing behind.
    EndsAreForgotten,
    /// A claim leaves nothing behind of the end before it.
    ClaimsForgetEnds,
    /// Of two pins that the store has made and lost, the one that is told first
    /// counts.
    EarlierPinsCount,
    /// A lost connection changes nothing of what a node is sure of.
    EpochGoesOn,
    /// A node that hears nothing goes on by what it knows.
    TrustNeverEnds,
    /// Messages are not heard.
    MessagesAreLost,
    /// A reply is believed although something later was heard.
    OldRepliesAreBelieved,
    /// A node says `new` of a pin that it has asked the store to replace.
    OwnRepliesAreNotAwaited,
    /// A node says nothing of what the store may have lost.
    NothingIsToldAgain,
    /// The maker says `new` however late.
    OwnLeaseNeverEnds,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ErasAreIgnored,
        Self::MovesCompareNothing,
        Self::SeenIsReplaced,
        Self::LeaseIsIgnored,
        Self::EndsAreForgotten,
        Self::ClaimsForgetEnds,
        Self::EarlierPinsCount,
        Self::EpochGoesOn,
        Self::TrustNeverEnds,
        Self::MessagesAreLost,
        Self::OldRepliesAreBelieved,
        Self::OwnRepliesAreNotAwaited,
        Self::NothingIsToldAgain,
        Self::OwnLeaseNeverEnds,
    ];
}
