//! Commands of a conversation.
//!
//! In: a line behind its slash. Out: a [`Command`], or what is wrong with it. It does nothing by itself.

use std::path::PathBuf;
use std::str::FromStr;

use crate::Usage;

/// What `/help` shows.
pub(super) const HELP: &str = "\
/help               this list
/exit, /quit        leave; Ctrl-D does as well
/reset              forget all but the system message
/system TEXT        say how the model should speak; without TEXT, nothing
/regen              make the last reply anew
/undo               forget the last message and its reply
/set NAME VALUE     temp, top-k, top-p, min-p, repeat-penalty, seed, or n (most tokens of a reply)
/save FILE          write the conversation
/load FILE          go on with a conversation from a file
/stats              how much was said, and how fast
/tokens             the token ids that the model holds

A line that ends with \\ goes on in the next; \"\"\" begins and ends several lines; // begins a message with a slash.
Ctrl-C stops a reply.";

/// A parameter and its value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Setting {
    Temp(f32),
    TopK(u32),
    TopP(f32),
    MinP(f32),
    RepeatPenalty(f32),
    Seed(u64),
    /// Most tokens of a reply.
    MostTokens(usize),
}

/// Something to do.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Command {
    Help,
    Exit,
    Reset,
    System(Option<String>),
    Regen,
    Undo,
    Set(Setting),
    Save(PathBuf),
    Load(PathBuf),
    Stats,
    Tokens,
}

impl Command {
    /// Reads a line without its slash.
    pub(super) fn parse(line: &str) -> Result<Self, Usage> {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let alone = |command: Self| match rest {
            "" => Ok(command),
            _ => Err(Usage(format!("/{name} takes nothing behind it, found {rest:?}"))),
        };
        let file = |command: fn(PathBuf) -> Self| match rest {
            "" => Err(Usage(format!("/{name} needs the name of a file"))),
            _ => Ok(command(PathBuf::from(rest))),
        };
        match name {
            "help" | "?" => alone(Self::Help),
            "exit" | "quit" => alone(Self::Exit),
            "reset" => alone(Self::Reset),
            "system" => Ok(Self::System((!rest.is_empty()).then(|| rest.to_owned()))),
            "regen" => alone(Self::Regen),
            "undo" => alone(Self::Undo),
            "set" => Setting::parse(rest).map(Self::Set),
            "save" => file(Self::Save),
            "load" => file(Self::Load),
            "stats" => alone(Self::Stats),
            "tokens" => alone(Self::Tokens),
            _ => Err(Usage(format!("there is no command /{name}: /help lists them, // begins a message with a slash"))),
        }
    }
}

impl Setting {
    fn parse(text: &str) -> Result<Self, Usage> {
        let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let value = value.trim();
        fn number<T: FromStr>(name: &str, value: &str) -> Result<T, Usage> {
            value.parse().map_err(|_| Usage(format!("/set {name} needs a number, found {value:?}")))
        }
        match name {
            "temp" => number(name, value).map(Self::Temp),
            "top-k" => number(name, value).map(Self::TopK),
            "top-p" => number(name, value).map(Self::TopP),
            "min-p" => number(name, value).map(Self::MinP),
            "repeat-penalty" => number(name, value).map(Self::RepeatPenalty),
            "seed" => number(name, value).map(Self::Seed),
            "n" => match number(name, value)? {
                0 => Err(Usage("a reply of 0 tokens says nothing: give /set n 1 or more".to_owned())),
                n => Ok(Self::MostTokens(n)),
            },
            _ => Err(Usage(format!(
                "/set takes temp, top-k, top-p, min-p, repeat-penalty, seed or n, and a value; found {name:?}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        for (line, want) in [
            ("help", Command::Help),
            ("quit", Command::Exit),
            ("system  be kind ", Command::System(Some("be kind".into()))),
            ("system", Command::System(None)),
            ("set temp 0.5", Command::Set(Setting::Temp(0.5))),
            ("set  n  7", Command::Set(Setting::MostTokens(7))),
            ("set seed 18446744073709551615", Command::Set(Setting::Seed(u64::MAX))),
            ("save a b.json", Command::Save("a b.json".into())),
            ("tokens", Command::Tokens),
        ] {
            assert_eq!(Command::parse(line).expect(line), want);
        }
    }

    #[test]
    fn others_are_refused() {
        for (line, message) in [
            ("", "no command /"),
            ("helpme", "no command /helpme"),
            ("undo 3", "takes nothing"),
            ("save", "name of a file"),
            ("set", "takes temp"),
            ("set temp", "needs a number"),
            ("set temp hot", "found \"hot\""),
            ("set top-k -1", "needs a number"),
            ("set n 0", "says nothing"),
        ] {
            let e = Command::parse(line).expect_err(line);
            assert!(e.to_string().contains(message), "{message:?} in {e}");
        }
    }

    #[test]
    fn help_names_every_command() {
        for name in
            ["help", "exit", "quit", "reset", "system", "regen", "undo", "set", "save", "load", "stats", "tokens"]
        {
            assert!(HELP.contains(&format!("/{name}")), "{name}");
        }
    }
}
