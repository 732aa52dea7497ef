//! The command line of a built program: one model, no compiler.
//!
//! In: the process's arguments and the model that it carries. Out: what `tern run` and `tern chat` would do with that
//! model, or what is known of it. Knobs of the environment count as they do for `tern`, those that mean something here.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tern_runtime::memory::HugePages;

use crate::args::{ChatArgs, EmbedArgs, GenerateArgs};
use crate::knobs::{self, choices};
use crate::output::{note, print, print_json};
use crate::source::{Facts, Source};
use crate::{Host, chat, embed, finish, interrupt, output, run};

#[derive(Parser, Debug)]
#[command(version, max_term_width = 100, args_conflicts_with_subcommands = true)]
struct ProgramArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Continue a prompt; what the program does without a command.
    Run(Box<RunArgs>),
    /// Talk with the model; /help lists what can be done meanwhile.
    Chat(Box<ChatCommandArgs>),
    /// Embed texts, if the model is one that does.
    Embed(Box<EmbedCommandArgs>),
    /// Say what is known of the model.
    Info(InfoArgs),
}

#[derive(clap::Args, Debug)]
struct RunArgs {
    #[command(flatten)]
    generate: GenerateArgs,
    #[command(flatten)]
    memory: MemoryArgs,
}

#[derive(clap::Args, Debug)]
struct ChatCommandArgs {
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    memory: MemoryArgs,
}

#[derive(clap::Args, Debug)]
struct EmbedCommandArgs {
    #[command(flatten)]
    embed: EmbedArgs,
    #[command(flatten)]
    memory: MemoryArgs,
}

#[derive(clap::Args, Debug)]
struct MemoryArgs {
    /// Whether to ask for 2 MiB pages [default: auto].
    #[arg(long, value_name = "WHEN", help_heading = "Engine", value_parser = PossibleValuesParser::new(choices("huge-pages")))]
    huge_pages: Option<String>,
    /// Where the weights of experts lie: in memory, or in this file, mapped [default: auto, in memory if they fit].
    #[arg(long, value_name = "WHERE", help_heading = "Engine", value_parser = PossibleValuesParser::new(choices("experts")))]
    experts: Option<String>,
}

impl MemoryArgs {
    fn host(&self) -> Result<Host<'static>> {
        let when = knobs::setting("huge-pages", self.huge_pages.as_deref())?.value;
        let huge_pages = if when == "off" { HugePages::Off } else { HugePages::Ask };
        Ok(Host { default_prompt: None, huge_pages, experts: knobs::experts(self.experts.as_deref())? })
    }
}

#[derive(clap::Args, Debug)]
struct InfoArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The main function of a built program that carries the model of `source`.
pub fn program(source: Box<dyn Source + '_>) -> ExitCode {
    let args = match parse(source.facts(), std::env::args_os()) {
        Ok(args) => args,
        // clap's own way: help goes to standard output and is no failure.
        Err(e) => e.exit(),
    };
    // Without a handler the program still ends, only without a word.
    let _ = tern_runtime::lost_pages::report();
    // A talk listens by itself.
    if !matches!(args.command, Some(Command::Chat(_)))
        && let Err(e) = interrupt::listen()
    {
        output::print_error(&e);
        return ExitCode::FAILURE;
    }
    for name in knobs::unknown_variables(std::env::vars_os().map(|(name, _)| name)) {
        note(&format!("warning: {name} is not a knob and changes nothing"));
    }
    finish(obey(args, source))
}

/// The arguments `given`, the program's own name first.
fn parse(facts: &Facts, given: impl IntoIterator<Item = OsString>) -> Result<ProgramArgs, clap::Error> {
    let kind = if facts.embedding.is_some() { "embedding" } else { "language" };
    let about = format!("The {kind} model {}, compiled by tern into this program.", output::harmless(&facts.name));
    let sampling = "Only the continuation goes to standard output. What is not given of temperature, top-k, top-p, min-p and \
                    repeat penalty is as the model's makers sample, if they do; else the likeliest token is taken (--temp 0).";
    let command = ProgramArgs::command().about(about.clone()).long_about(format!("{about}\n\n{sampling}"));
    ProgramArgs::from_arg_matches(&command.try_get_matches_from(given)?)
}

fn obey(args: ProgramArgs, source: Box<dyn Source + '_>) -> Result<ExitCode> {
    match args.command {
        None => continue_prompt(&args.run, source),
        Some(Command::Run(args)) => continue_prompt(&args, source),
        Some(Command::Chat(args)) => {
            let host = args.memory.host()?;
            chat::chat(&args.chat, host, || Ok(source))
        }
        Some(Command::Embed(args)) => {
            let host = args.memory.host()?;
            embed::embed(&args.embed, host, || Ok(source))
        }
        Some(Command::Info(args)) => info(&args, source.facts()),
    }
}

fn continue_prompt(args: &RunArgs, source: Box<dyn Source + '_>) -> Result<ExitCode> {
    let host = args.memory.host()?;
    run::run(&args.generate, host, || Ok(source))
}

fn info(args: &InfoArgs, facts: &Facts) -> Result<ExitCode> {
    if args.json {
        print_json(facts)?;
        return Ok(ExitCode::SUCCESS);
    }
    let ids = |ids: &[u32]| match ids {
        [] => "none".to_owned(),
        ids => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
    };
    let bos: Vec<u32> = facts.bos.into_iter().collect();
    print(&format!(
        "model       {}\nvocabulary  {} tokens\ncontext     at most {} tokens\nbegins with {}\nends with   {}\n",
        output::harmless(&facts.name),
        facts.vocab,
        facts.most_positions,
        ids(&bos),
        ids(&facts.eos),
    ))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<ProgramArgs, clap::Error> {
        let facts = Facts {
            name: "small".into(),
            vocab: 10,
            embedding: None,
            prepared_positions: 8,
            most_positions: 8,
            bos: None,
            eos: vec![],
            generation: tern_runtime::sample::GenerationDefaults::default(),
        };
        parse(&facts, [&["program"], args].concat().into_iter().map(OsString::from))
    }

    #[test]
    fn run_is_the_default() {
        ProgramArgs::command().debug_assert();
        let alone = parsed(&["-p", "text", "-n", "3"]).expect("run's options");
        assert_eq!((alone.run.generate.prompt.as_deref(), alone.run.generate.n), (Some("text"), 3));
        let named = parsed(&["run", "-p", "text"]).expect("the command");
        assert!(matches!(named.command, Some(Command::Run(args)) if args.generate.n == 128));
        assert!(parsed(&["-p", "text", "info"]).is_err());
        let chat = parsed(&["chat", "--system", "x", "--huge-pages", "off"]).expect("the command");
        assert!(matches!(chat.command, Some(Command::Chat(args)) if args.chat.n == 512));
        assert!(
            matches!(parsed(&["info", "--json"]).expect("the command").command, Some(Command::Info(args)) if args.json)
        );
    }

    #[test]
    fn help_names_the_model() {
        let help = parsed(&["--help"]).expect_err("help").to_string();
        assert!(help.contains("The language model small") && help.contains("--temp"), "{help}");
    }
}
