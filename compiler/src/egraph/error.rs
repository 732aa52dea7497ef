//! What can go wrong between a verified graph and the optimised one.

use egg::StopReason;

/// Why a graph has no compiled or optimised form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Unsupported: an op of the source form for which no rule gives a kernel.
    #[error("%{node} = {op} has no compiled form: {reason}")]
    NoKernel {
        /// The node of the source graph.
        node: u32,
        /// Its op.
        op: &'static str,
        /// What is missing, and what is supported.
        reason: String,
    },
    /// Unsupported: the rules that define the compiled form did not finish within the limits.
    #[error(
        "the compiled form of {region} was not reached: stopped by {stop}; the region is larger than tern compiles"
    )]
    NotSaturated {
        /// Which part of the graph.
        region: String,
        /// What stopped it.
        stop: super::report::Stop,
    },
    /// Input: a graph that the verifier would have refused.
    #[error("{reason}; verify the graph first")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// Bug: a row of the rule table does not compile.
    #[error("bug in tern: rule {rule} does not compile: {reason}")]
    Rule {
        /// The rule.
        rule: String,
        /// Why.
        reason: String,
    },
    /// Bug: a rule equated values of different types, or built an op on operands that it does not take.
    #[error("bug in tern: rewriting {region} broke its types: {fault}")]
    Fault {
        /// Which part of the graph.
        region: String,
        /// The first fault.
        fault: String,
    },
    /// Bug: rewriting was ended by something else than a limit by number, such as the clock.
    #[error("bug in tern: rewriting {region} stopped for the reason {reason:?}, which must not choose a result")]
    Stopped {
        /// Which part of the graph.
        region: String,
        /// egg's reason.
        reason: StopReason,
    },
    /// Bug: the extractor returned something that is no graph of the region.
    #[error("bug in tern: extraction from {region}: {reason}")]
    Extract {
        /// Which part of the graph.
        region: String,
        /// What is wrong with it.
        reason: String,
    },
}
