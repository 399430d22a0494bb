//! Mistakes that the simulation makes on purpose, to see that they are found.

/// A mistake that the driver makes where the gateway does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The loser of a claim answers before the pin is written.
    LoserDoesNotWait,
    /// The winner does.
    WinnerDoesNotWait,
    /// A request on a kept connection does.
    KeptLinkDoesNotWait,
    /// The loser of a claim leaves by the exit that it had proposed.
    LoserKeepsItsOwn,
    /// The loser of a claim does not give its room back.
    LoserKeepsItsRoom,
    /// A move names whatever version there is.
    MoveComparesNothing,
    /// Versions are counted, from the start for each pin.
    VersionsRestart,
    /// An end is rounded down to the second.
    ExpiryRoundedDown,
    /// A move begins the ttl anew.
    MoveExtendsExpiry,
    /// A use is not written.
    TouchNotWritten,
    /// The end of a session is not written.
    EndNotWritten,
    /// A success does not note that it said `new`.
    NewSaidTwice,
    /// After a crash the clock is the wall clock, whatever steps it had seen.
    ClockForgotten,
    /// The gateway goes by the wall clock.
    ClockStepsAlong,
    /// What the disk refused stays in the map.
    RefusedIsKept,
    /// When the disk refuses a move, what used the session since is forgotten.
    RefusedMoveForgetsUses,
    /// Uses while the disk refused are not written when it comes back.
    UsesAreNotMadeUpFor,
    /// The pin is not looked at again when the dial is done.
    DoesNotLookAgain,
    /// A request decides by the pools that it began with.
    OldPoolsDecide,
    /// Two users' sessions of one name are one.
    UsersShare,
    /// A kept connection serves every session.
    LinksAreShared,
    /// `failover` is always `on`.
    FailoverIsOn,
    /// `failover=address` takes any exit.
    AnyAddressWillDo,
    /// A failure of the target counts as the exit's.
    TargetsFaultIsExits,
    /// A pin that somebody has seen gives way to another at one failure.
    SeenIsReplaced,
    /// A move forgets the labels.
    LabelsForgotten,
    /// An exit's `max_ttl` is not looked at.
    ExitsMaxTtlIgnored,
    /// A move of a pin that has ended becomes a pin as it was proposed.
    MoveBecomesClaim,
    /// A token that cannot be renewed, since its exit is down, is given up.
    RenewalGivesUp,
    /// A session stays on an exit that has got another address.
    ReaddressedStays,
    /// A session that has just come to such an exit leaves it again.
    ReaddressedLeavesAgain,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 31] = [
        Self::LoserDoesNotWait,
        Self::WinnerDoesNotWait,
        Self::KeptLinkDoesNotWait,
        Self::LoserKeepsItsOwn,
        Self::LoserKeepsItsRoom,
        Self::MoveComparesNothing,
        Self::VersionsRestart,
        Self::ExpiryRoundedDown,
        Self::MoveExtendsExpiry,
        Self::TouchNotWritten,
        Self::EndNotWritten,
        Self::NewSaidTwice,
        Self::ClockForgotten,
        Self::ClockStepsAlong,
        Self::RefusedIsKept,
        Self::RefusedMoveForgetsUses,
        Self::UsesAreNotMadeUpFor,
        Self::DoesNotLookAgain,
        Self::OldPoolsDecide,
        Self::UsersShare,
        Self::LinksAreShared,
        Self::FailoverIsOn,
        Self::AnyAddressWillDo,
        Self::TargetsFaultIsExits,
        Self::SeenIsReplaced,
        Self::LabelsForgotten,
        Self::ExitsMaxTtlIgnored,
        Self::MoveBecomesClaim,
        Self::RenewalGivesUp,
        Self::ReaddressedStays,
        Self::ReaddressedLeavesAgain,
    ];
}
