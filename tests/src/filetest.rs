//! Text filetests: a graph in, the blessed text of one stage out.
//!
//! A file is a header, a graph, a line `// ----` and the blessed output:
//!
//! ```text
//! // test: schedule tokens=8
//! // What the file is about.
//! graph "g" { ... }
//! // ----
//! schedule: 9 kernels, ...
//! ```
//! In: such a file. Out: the text that its mode makes of the graph now, compared with the blessed one ([`Filetest::check`])
//! or written in its place ([`Filetest::bless`]). Nothing in an output depends on the machine: levels are named in the
//! header, times and costs are left out.
//!
//! | mode | output | options |
//! | --- | --- | --- |
//! | `roundtrip` | the graph as it prints; it must parse back to itself | |
//! | `parse_errors` | what the parser says of a text that is none | |
//! | `verify` | what the verifier says of a graph that is wrong | `form=any`, `model` or `compiled` |
//! | `compile` | the compiled form, or why there is none | |
//! | `optimise` | per region: rules that fired and why they stopped; then the graph | `iterations=N`, `strategies=all` |
//! | `schedule` | the schedule, or why there is none | `tokens=N`, `optimise=yes` |
//! | `clif` | Cranelift IR of the functions whose symbol contains `only` | `only=TEXT`, `isa=NAME`, `arith=NAME`, and those of `schedule` |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tern_compiler::codegen::jit::JitCode;
use tern_compiler::codegen::module::Listing;
use tern_compiler::codegen::{EmitterChoice, Isa, Target};
use tern_compiler::egraph::{self, Facts, Optimised, compile_form, optimise};
use tern_compiler::graph::Graph;
use tern_compiler::graph::arith::Profile;
use tern_compiler::graph::parse::parse;
use tern_compiler::graph::verify::{VerifyErrors, verify, verify_compiled, verify_model};
use tern_compiler::schedule::kernel::TritPacking;
use tern_compiler::schedule::{self, HeadMode, Schedule, Ternary};
use tern_compiler::strategy::Offers;

use crate::strategies;

/// The line between the graph and the blessed output.
const SEPARATOR: &str = "// ----";

/// One file.
#[derive(Clone, Debug)]
pub struct Filetest {
    /// Where it is.
    pub path: PathBuf,
    /// What is done to the graph.
    pub mode: String,
    options: BTreeMap<String, String>,
    /// The header and the graph: everything above the separator.
    input: String,
    expected: String,
}

impl Filetest {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or its header is not one.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let (input, expected) = match text.split_once(&format!("{SEPARATOR}\n")) {
            Some((input, expected)) => (input.to_owned(), expected.to_owned()),
            None => (text, String::new()),
        };
        let header = input.lines().next().and_then(|line| line.strip_prefix("// test: "));
        let header = header.ok_or_else(|| anyhow!("{}: the first line must be `// test: MODE`", path.display()))?;
        let mut words = header.split_whitespace();
        let mode = words.next().unwrap_or_default().to_owned();
        let option = |word: &str| {
            let (name, value) = word.split_once('=').ok_or_else(|| anyhow!("{word:?} is not NAME=VALUE"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        let options = words.map(option).collect::<Result<_>>()?;
        Ok(Self { path: path.to_owned(), mode, options, input, expected })
    }

    /// What the file's mode makes of its graph now.
    ///
    /// # Errors
    /// If the mode or an option is unknown, or the graph is not one that the mode takes.
    pub fn output(&self) -> Result<String> {
        match self.mode.as_str() {
            "roundtrip" => self.with_options(&[], roundtrip),
            "parse_errors" => self.with_options(&[], |test| match parse(&test.input) {
                Ok(_) => bail!("the text parses"),
                Err(errors) => Ok(format!("{errors}\n")),
            }),
            "verify" => self.with_options(&["form"], violations),
            "compile" => self.with_options(&[], |test| {
                Ok(compile_form(&test.valid_graph()?).map_or_else(|e| format!("error: {e}\n"), |g| g.to_string()))
            }),
            "optimise" => self.with_options(&["iterations", "strategies"], optimised),
            "schedule" => self.with_options(&["tokens", "optimise"], |test| {
                Ok(test.schedule()?.map_or_else(|e| format!("error: {e}\n"), |s| s.to_string()))
            }),
            "clif" => self.with_options(&["only", "isa", "arith", "tokens", "optimise"], clif),
            other => bail!("unknown mode {other:?}"),
        }
    }

    /// Compares the output with the blessed one.
    ///
    /// # Errors
    /// As for [`Filetest::output`], or the difference and how to accept it.
    pub fn check(&self) -> Result<()> {
        let found = self.output()?;
        if found == self.expected {
            return Ok(());
        }
        bail!(
            "{}: the output changed (- blessed, + found)\n{}\nif the new output is right: TERN_BLESS=1 cargo test -p tern-tests --test filetests",
            self.path.display(),
            diff(&self.expected, &found)
        )
    }

    /// Writes the output into the file.
    ///
    /// # Errors
    /// As for [`Filetest::output`], or if the file cannot be written.
    pub fn bless(&self) -> Result<()> {
        let text = format!("{}{SEPARATOR}\n{}", self.input, self.output()?);
        std::fs::write(&self.path, text).with_context(|| self.path.display().to_string())
    }

    /// The graph, which must verify in source or compiled form.
    ///
    /// # Errors
    /// If it does not parse or verify.
    pub fn valid_graph(&self) -> Result<Graph> {
        let graph = parse(&self.input).map_err(|e| anyhow!("{}:\n{e}", self.path.display()))?;
        verify(&graph).map_err(|e| anyhow!("{}:\n{e}", self.path.display()))?;
        Ok(graph)
    }

    /// The rules that fire on the graph, of class `real` and, in mode `optimise`, of class `bitwise`.
    ///
    /// # Errors
    /// If the graph is not one, or a pass fails.
    pub fn rules_fired(&self) -> Result<Vec<String>> {
        let graph = self.valid_graph()?;
        let mut fired = real_rules_fired(&graph)?;
        if self.mode == "optimise" {
            let report = self.optimise(&compile_form(&graph)?)?.report;
            fired.extend(report.regions.into_iter().flat_map(|region| region.fired).map(|fired| fired.rule));
        }
        Ok(fired)
    }

    /// The names of the ops that the passes of this file see: those of the graph and of what is scheduled.
    ///
    /// # Errors
    /// If the graph is not one, or a pass fails.
    pub fn ops_seen(&self) -> Result<Vec<&'static str>> {
        let graph = self.valid_graph()?;
        let lowered = if self.mode == "schedule" { self.lowered()? } else { compile_form(&graph).ok() };
        let graphs = [Some(graph), lowered];
        Ok(graphs.into_iter().flatten().flat_map(|g| g.nodes.into_iter().map(|n| n.op.name())).collect())
    }

    fn with_options(&self, known: &[&str], run: impl FnOnce(&Self) -> Result<String>) -> Result<String> {
        let unknown = self.options.keys().find(|name| !known.contains(&name.as_str()));
        ensure!(unknown.is_none(), "mode {} has no option {unknown:?}; it has {known:?}", self.mode);
        run(self)
    }

    fn option(&self, name: &str, default: &'static str) -> &str {
        self.options.get(name).map_or(default, String::as_str)
    }

    fn egraph_options(&self) -> Result<egraph::Options> {
        Ok(egraph::Options { iterations: self.option("iterations", "16").parse()?, ..egraph::Options::default() })
    }

    /// Rewrites a compiled graph. Products keep the strategy `any` unless the file asks for `strategies=all`: then every
    /// one is there, and everything that they claim is taken for proved of every weight.
    fn optimise(&self, compiled: &Graph) -> Result<Optimised> {
        let (facts, costs) = match self.option("strategies", "any") {
            "any" => (Facts::new(), strategies::none()),
            "all" => strategies::all(compiled),
            other => bail!("strategies={other}: expected any or all"),
        };
        Ok(optimise(compiled, &facts, &self.egraph_options()?, &costs)?)
    }

    /// The graph that is scheduled, unless it has no compiled form.
    fn lowered(&self) -> Result<Option<Graph>> {
        let Ok(compiled) = compile_form(&self.valid_graph()?) else { return Ok(None) };
        verify_compiled(&compiled).map_err(|e| anyhow!("the compiled form does not verify:\n{e}"))?;
        match self.option("optimise", "no") {
            "no" => Ok(Some(compiled)),
            "yes" => Ok(Some(self.optimise(&compiled)?.graph)),
            other => bail!("optimise={other}: expected yes or no"),
        }
    }

    fn schedule(&self) -> Result<Result<Schedule, schedule::Error>> {
        let graph = self.lowered()?.ok_or_else(|| anyhow!("the graph has no compiled form"))?;
        let head = self.option("head", "auto");
        let head = HeadMode::from_name(head).ok_or_else(|| anyhow!("head={head}: expected auto, exact or coarse"))?;
        let ternary = Ternary { packing: TritPacking::T2, table: None };
        let options = schedule::Options {
            max_step_tokens: self.option("tokens", "8").parse()?,
            ternary,
            head,
            variants: schedule::Variants::new(),
            proofs: schedule::Proofs::default(),
        };
        Ok(schedule::schedule(&graph, &options))
    }
}

fn roundtrip(test: &Filetest) -> Result<String> {
    let graph = parse(&test.input).map_err(|e| anyhow!("{e}"))?;
    let text = graph.to_string();
    let again = parse(&text).map_err(|e| anyhow!("what was printed does not parse:\n{e}\n{text}"))?;
    ensure!(again == graph, "what was printed parses to another graph:\n{text}");
    Ok(text)
}

fn violations(test: &Filetest) -> Result<String> {
    let check: fn(&Graph) -> Result<(), VerifyErrors> = match test.option("form", "any") {
        "any" => verify,
        "model" => verify_model,
        "compiled" => verify_compiled,
        other => bail!("form={other}: expected any, model or compiled"),
    };
    match check(&parse(&test.input).map_err(|e| anyhow!("{e}"))?) {
        Ok(()) => bail!("the graph verifies"),
        Err(errors) => Ok(format!("{errors}\n")),
    }
}

fn optimised(test: &Filetest) -> Result<String> {
    let compiled = compile_form(&test.valid_graph()?)?;
    let optimised = test.optimise(&compiled)?;
    verify(&optimised.graph).map_err(|e| anyhow!("the optimised graph does not verify:\n{e}"))?;
    let mut text = String::new();
    for region in &optimised.report.regions {
        let mut rules: Vec<&str> = region.fired.iter().map(|fired| fired.rule.as_str()).collect();
        rules.sort_unstable();
        rules.dedup();
        let rules = if rules.is_empty() { "none".to_owned() } else { rules.join(", ") };
        let exact = if region.exact { "exact" } else { "not exact" };
        writeln!(text, "// {} x{}: {rules}; stopped by {}; {exact}", region.name, region.shared_by, region.stop)?;
    }
    Ok(text + &optimised.graph.to_string())
}

fn clif(test: &Filetest) -> Result<String> {
    let isa = Isa::ALL.iter().copied().find(|isa| isa.name() == test.option("isa", "sse41"));
    let isa = isa.ok_or_else(|| anyhow!("unknown ISA level"))?;
    let profile = match test.option("arith", "plain") {
        "plain" => Profile::Plain,
        "fma" => Profile::Fma,
        other => bail!("arith={other}: expected plain or fma"),
    };
    // Compiled, never run: the level need not be there.
    let code = JitCode::compile(
        &test.schedule()??,
        &Target::new(isa, profile, EmitterChoice::Clif)?,
        Listing { clif: true, asm: false },
    )?;
    let only = test.option("only", "");
    let functions = code.listed().iter().filter(|function| function.symbol.contains(only));
    let text: Vec<String> = functions
        .map(|function| format!("; {}\n{}", function.symbol, function.clif.as_deref().unwrap_or_default()))
        .collect();
    ensure!(!text.is_empty(), "no function is called {only:?}");
    Ok(text.join("\n"))
}

/// The `real` rules that fire somewhere in `graph`.
fn real_rules_fired(graph: &Graph) -> Result<Vec<String>> {
    use tern_compiler::egraph::{regions, rules, saturate};
    let rules = rules::of_class(tern_compiler::spec::Class::Real)?;
    let limits = saturate::Limits { iterations: 100, nodes: 100_000 };
    let mut fired = Vec::new();
    for region in regions::split(graph, &Facts::new())? {
        let saturated = saturate::saturate("filetest", &region.body, &rules, &Offers::default(), limits)?;
        fired.extend(saturated.fired.into_iter().map(|fired| fired.rule));
    }
    Ok(fired)
}

/// Lines of `old` and `new`: common ones as they are (far from a change: left out), others with `-` and `+`.
pub fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // lengths[i][j]: the longest common subsequence of old[i..] and new[j..].
    let mut lengths = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i][j] =
                if old[i] == new[j] { lengths[i + 1][j + 1] + 1 } else { lengths[i + 1][j].max(lengths[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && lengths[i + 1][j] >= lengths[i][j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    const AROUND: usize = 3;
    let near =
        |at: usize| lines[at.saturating_sub(AROUND)..(at + AROUND + 1).min(lines.len())].iter().any(|l| l.0 != ' ');
    let mut text = String::new();
    let mut left_out = false;
    for (at, (mark, line)) in lines.iter().enumerate() {
        if near(at) {
            text += &format!("{mark} {line}\n");
        } else if !left_out {
            text += "  ...\n";
        }
        left_out = !near(at);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_its_lines_and_little_else() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\n";
        assert_eq!(diff(old, "a\nb\nc\nd\ne\nf\nX\nh\n"), "  ...\n  d\n  e\n  f\n- g\n+ X\n  h\n");
        assert_eq!(diff("", "a\n"), "+ a\n");
        assert_eq!(diff("a\nb\n", "b\n"), "- a\n  b\n");
    }

    #[test]
    fn a_wrong_header_is_refused() {
        let dir = tempfile::tempdir().expect("a folder for a test");
        let path = dir.path().join("x.tern");
        for (text, message) in
            [("graph", "first line"), ("// test: fly\n", "unknown mode"), ("// test: verify a=b\n", "option")]
        {
            std::fs::write(&path, text).expect("a file for a test");
            let error = Filetest::read(&path).and_then(|test| test.output()).expect_err(text);
            assert!(format!("{error:#}").contains(message), "{error:#}");
        }
    }
}
