//! Where requests may go.

/// Which targets may be reached.
#[derive(Clone, Debug, Default)]
pub struct TargetPolicy {}
