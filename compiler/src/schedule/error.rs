//! Why there is no schedule: three families, never mixed.

/// The schedule could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The graph is valid, but no kernel computes this.
    #[error("%{node} ({op}): {reason}")]
    Unsupported {
        /// The node.
        node: u32,
        /// Its op.
        op: &'static str,
        /// What is missing, and what is supported.
        reason: String,
    },
    /// The caller asked for the impossible.
    #[error("{reason}")]
    Options {
        /// What is wrong.
        reason: String,
    },
    /// A bug in tern.
    #[error("bug in the schedule: {reason}")]
    Bug {
        /// What went wrong.
        reason: String,
    },
}
