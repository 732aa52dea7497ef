//! The value of a knob: the option if it was given, else the environment's, else the default.
//!
//! In: the knob table and what the user wrote. Out: values that the table accepts. The only reader of the environment in
//! tern: the libraries get what is settled here.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tern_runtime::generated::knobs::KNOBS;
use tern_runtime::knobs::{KnobKind, KnobSpec};
use tern_runtime::memory::Experts;

use crate::Usage;

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// An option of the command line.
    Option,
    /// The environment.
    Environment,
    /// The table.
    Default,
}

impl Source {
    /// The name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Option => "option",
            Source::Environment => "environment",
            Source::Default => "default",
        }
    }
}

/// A knob's value in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The value, which the table accepts.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
}

/// The knob called `name`.
///
/// # Panics
/// If there is none; names are written in code, and a test of the command line goes over them.
pub fn spec(name: &str) -> &'static KnobSpec {
    KNOBS.iter().find(|knob| knob.name == name).expect("the knob is in the table")
}

/// The words that the knob takes; none if it is a number.
pub fn choices(name: &str) -> &'static [&'static str] {
    match spec(name).kind {
        KnobKind::Choice(words) => words,
        KnobKind::Number { .. }
        | KnobKind::NumberOrAuto { .. }
        | KnobKind::FolderOrAuto
        | KnobKind::FileOrChoice(_) => &[],
    }
}

/// Where experts shall lie, given the option.
///
/// # Errors
/// As [`setting`].
pub fn experts(option: Option<&str>) -> Result<Experts> {
    let place = setting("experts", option)?.value;
    Experts::from_name(&place).with_context(|| format!("bug in tern: the knob experts is {place:?}"))
}

/// Accepts what the table accepts for `name`, as text.
pub fn parser(name: &'static str) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync + 'static {
    move |value| {
        let knob = spec(name);
        if knob.kind.accepts(value) { Ok(value.to_owned()) } else { Err(format!("expected {}", expected(knob.kind))) }
    }
}

/// What a knob takes, in words.
pub fn expected(kind: KnobKind) -> String {
    match kind {
        KnobKind::Choice(words) => words.join(", "),
        KnobKind::Number { min, max } => format!("a number from {min} to {max}"),
        KnobKind::NumberOrAuto { min, max } => format!("auto, or a number from {min} to {max}"),
        KnobKind::FolderOrAuto => "auto, or a folder".to_owned(),
        KnobKind::FileOrChoice(words) => format!("{}, or a file", words.join(", ")),
    }
}

/// The value of the knob `name`, given its option.
pub fn setting(name: &str, option: Option<&str>) -> Result<Setting> {
    let env = std::env::var_os(spec(name).env).map(|v| v.to_string_lossy().into_owned());
    settle(spec(name), option, env.as_deref())
}

fn settle(knob: &KnobSpec, option: Option<&str>, env: Option<&str>) -> Result<Setting> {
    let (value, source) = match (option, env) {
        (Some(value), _) => (value, Source::Option),
        (None, Some(value)) => (value, Source::Environment),
        (None, None) => (knob.default, Source::Default),
    };
    if !knob.kind.accepts(value) {
        let message = format!("{} is {value:?}, expected {}", knob.env, expected(knob.kind));
        return Err(Usage(message).into());
    }
    Ok(Setting { value: value.to_owned(), source })
}

/// Those of `names` that look like a knob's variable and are none: more likely a mistake than meant for somebody else.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let mut unknown: Vec<_> =
        names.filter(|name| name.starts_with("TERN_") && !KNOBS.iter().any(|knob| knob.env == name)).collect();
    unknown.sort();
    unknown
}

/// Where this user's programs keep what they remember, by the rules of the XDG folders; `None` if there is no such place.
pub fn state_folder() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("tern"))
}

/// The user's folder of what may be made again, of tern's own; `None` where the environment names no home.
pub fn cache_folder() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(caches.join("tern"))
}

/// Where files without a name lie that may be large: `TMPDIR`, or the system's place for such files that is a disk and not memory.
pub fn scratch_folder() -> Option<PathBuf> {
    let named = std::env::var_os("TMPDIR").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(named.unwrap_or_else(|| PathBuf::from("/var/tmp"))).filter(|path| path.is_dir())
}

/// `HF_ENDPOINT`: the hub that models come from, as the hub's own programs call it.
pub fn hub_endpoint() -> Option<String> {
    std::env::var("HF_ENDPOINT").ok().filter(|url| !url.is_empty())
}

/// `HF_HUB_OFFLINE`: whether no hub may be asked, as the hub's own programs read it.
pub fn hub_is_offline() -> bool {
    let value = std::env::var("HF_HUB_OFFLINE").unwrap_or_default();
    ["1", "on", "yes", "true"].iter().any(|word| value.trim().eq_ignore_ascii_case(word))
}

/// `SSL_CERT_FILE`: the certificates to trust, as OpenSSL's programs call it.
pub fn tls_roots() -> Option<PathBuf> {
    std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// `HF_TOKEN`: who asks. A secret: never shown, never written.
pub fn hub_token() -> Option<String> {
    std::env::var("HF_TOKEN").ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// The value of a knob that is a number.
pub fn number(name: &str, option: Option<&str>) -> Result<u64> {
    let value = setting(name, option)?.value;
    // The table has accepted it.
    value.parse().with_context(|| format!("bug in tern: the knob {name} is {value:?}, which is no number"))
}

/// The value of a knob that is a number or `auto`; `None` for `auto`.
pub fn number_or_auto(name: &str, option: Option<&str>) -> Result<Option<u64>> {
    // The table has accepted it, so what is no number is `auto`.
    Ok(setting(name, option)?.value.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_before_the_environment_before_the_default() {
        let settled = |option, env| settle(spec("threads"), option, env).expect("a value");
        assert_eq!(settled(Some("3"), Some("2")), Setting { value: "3".into(), source: Source::Option });
        assert_eq!(settled(None, Some("2")), Setting { value: "2".into(), source: Source::Environment });
        assert_eq!(settled(None, None), Setting { value: "auto".into(), source: Source::Default });
    }

    #[test]
    fn variables_that_are_no_knobs_are_found() {
        let names = ["TERN_THREAD", "HOME", "TERN_KV", "TERN_A", "XTERN_A"];
        assert_eq!(unknown_variables(names.into_iter().map(OsString::from)), ["TERN_A", "TERN_THREAD"]);
    }

    #[test]
    fn a_wrong_environment_is_named() {
        let e = settle(spec("threads"), None, Some("many")).expect_err("a wrong value");
        assert_eq!(e.to_string(), "TERN_THREADS is \"many\", expected auto, or a number from 1 to 1024");
        assert!(e.is::<Usage>());
    }
}
