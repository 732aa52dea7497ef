//! `tern chat` with piped messages: what goes where, what is used again, what is refused.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Ran, fixture, run, run_with_input};

/// `tern chat` with `args` and `input`.
fn chat(args: &[&str], input: &str) -> Ran {
    run_with_input(&[&["chat"][..], args].concat(), input.as_bytes())
}

/// The objects that `--json` prints.
fn reports(args: &[&str], input: &str) -> Vec<Value> {
    let lines = chat(&[&["--json"][..], args].concat(), input).ok();
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn texts(reports: &[Value]) -> Vec<&str> {
    reports.iter().map(|report| report["reply"].as_str().expect("a reply")).collect()
}

/// The conversation in a file.
fn saved(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON")
}

const GREEDY: [&str; 4] = ["--temp", "0", "-n", "12"];

#[test]
fn each_line_is_a_message() {
    let ran = chat(&GREEDY, "And the children\r\n\nWho is the king?\n");
    assert!(ran.stderr.contains("no chat template: taking plain"), "{ran:?}");
    let text = ran.ok();
    let both = reports(&GREEDY, "And the children\nWho is the king?");
    assert_eq!(text, texts(&both).join("\n") + "\n");
    assert_eq!(both.len(), 2);
    // The first message may be an option, several lines one message.
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "And the children\n").expect("written");
    let path = file.path().to_str().expect("a path in UTF-8");
    for (args, input) in [
        (&["-p", "And the children"][..], "Who is the king?\n"),
        (&["-f", path], "Who is the king?\n"),
        (&[], "And the children\n\"\"\"Who is the king?\"\"\"\n"),
        (&[], "And the children\n/help\n\"\"\"\nWho is the king?\n\"\"\"\n/exit\nnever said\n"),
    ] {
        assert_eq!(texts(&reports(&[&GREEDY[..], args].concat(), input)), texts(&both), "{args:?} {input:?}");
    }
    let lines = |input| texts(&reports(&GREEDY, input)).join("|");
    assert_eq!(lines("a\\\nb\n"), lines("\"\"\"a\nb\"\"\"\n"));
    assert_ne!(lines("a\\\nb\n"), lines("a\nb\n"));
}

#[test]
fn a_reply_is_the_same_whether_or_not_anything_is_held() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("talk.json");
    let file = path.to_str().expect("a path in UTF-8");
    let messages = ["And the children", "Who is the king?", "Speak of the sea", "Again"];
    // The penalty looks at tokens that are not computed again.
    let how = ["--temp", "0", "-n", "24", "--repeat-penalty", "1.3", "--system", "Be kind."];
    let kept = reports(&how, &messages.join("\n"));
    assert_eq!(kept[0]["reused_toks"], 0);
    for report in &kept[1..] {
        let (reused, prompt) = (report["reused_toks"].as_u64(), report["prompt_toks"].as_u64());
        assert!(reused > Some(20) && reused < prompt, "{report}");
    }
    for (message, want) in messages.iter().zip(&kept) {
        let load: &[&str] = if path.exists() { &["--load", file] } else { &[] };
        let alone = reports(&[&how[..], load, &["--save", file, "-t", "1"]].concat(), message);
        assert_eq!((&alone[0]["reply"], alone[0]["reused_toks"].as_u64()), (&want["reply"], Some(0)));
        assert_eq!(alone[0]["prompt_toks"], want["prompt_toks"]);
    }
    let roles: Vec<Value> =
        saved(&path)["messages"].as_array().expect("messages").iter().map(|m| m["role"].clone()).collect();
    assert_eq!((roles.len(), &roles[0], &roles[8]), (9, &json!("system"), &json!("assistant")));
}

#[test]
fn commands_change_what_comes() {
    let once = reports(&GREEDY, "And the children\n");
    let first = once[0]["reply"].as_str().expect("a reply");
    // Undone, begun anew, said again: the same reply to the same message.
    for input in [
        "x\n/undo\nAnd the children\n",
        "x\ny\n/reset\nAnd the children\n",
        "And the children\n/regen\n",
        "/system Be kind.\nx\n/reset\n/system\nAnd the children\n",
    ] {
        assert_eq!(*texts(&reports(&GREEDY, input)).last().expect("a reply"), first, "{input:?}");
    }
    let kind = reports(&GREEDY, "/system Be kind.\nAnd the children\n");
    let asked = reports(&[&GREEDY[..], &["--system", "Be kind."]].concat(), "And the children\n");
    assert_eq!((&kind[0]["reply"], &kind[0]["prompt_toks"]), (&asked[0]["reply"], &asked[0]["prompt_toks"]));
    assert!(kind[0]["prompt_toks"].as_u64() > once[0]["prompt_toks"].as_u64());
    // Sampled, a reply is made anew with other random numbers; the same seed gives the same again.
    let sampled = reports(
        &["--temp", "1.5", "--seed", "5", "-n", "12"],
        "And the\n/regen\n/undo\n/set seed 6\n/set seed 5\nAnd the\n",
    );
    let sampled = texts(&sampled);
    assert!(sampled[0] != sampled[1] && sampled[0] == sampled[2], "{sampled:?}");
    let set = reports(
        &["--temp", "1.5"],
        "/set temp 0\n/set n 12\n/set top-k 3\n/set top-p 0.5\n/set min-p 0.1\nAnd the children\n",
    );
    assert_eq!(texts(&set), [first]);

    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a talk.json");
    let ran = chat(
        &GREEDY,
        &format!("And the children\n/save {0}\n/reset\n/load {0}\n/stats\n/tokens\n/help\n", path.display()),
    );
    assert!(ran.stderr.contains("1 exchanges, 0 of them left out") && ran.stderr.contains("/regen"), "{ran:?}");
    assert!(ran.stderr.contains(" tokens of 512: 0,"), "{ran:?}");
    assert_eq!(ran.ok(), format!("{first}\n"));
    assert_eq!(
        saved(&path)["messages"],
        json!([{"role": "user", "content": "And the children"}, {"role": "assistant", "content": first}])
    );
}

#[test]
fn in_a_full_context_the_oldest_is_left_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("talk.json");
    let how = ["--temp", "0", "-n", "20", "--ctx", "128", "--save", path.to_str().expect("a path in UTF-8")];
    let input: String = (0..9).map(|i| format!("Speak of the {i} seas and of the ships\n")).collect();
    let ran = chat(&[&how[..], &["--json", "--system", "Be kind."]].concat(), &input);
    assert!(ran.stderr.contains("does not see the oldest exchange any more"), "{ran:?}");
    let lines = ran.ok();
    let mut left_out = 0;
    for line in lines.lines() {
        let report: Value = serde_json::from_str(line).expect("JSON");
        // Room for a reply stays.
        assert!(report["prompt_toks"].as_u64() <= Some(108) && report["stop"] != "context-full", "{report}");
        let now = report["left_out_exchanges"].as_u64().expect("a number");
        assert!(now >= left_out);
        left_out = now;
    }
    assert!(left_out > 3, "{left_out}");
    assert_eq!(lines.lines().count(), 9);
    // What the model does not see any more is kept all the same.
    assert_eq!(saved(&path)["messages"].as_array().map(Vec::len), Some(19));

    let long = "word ".repeat(200);
    chat(&["--ctx", "128"], &long).refused(1, "this message alone takes");
    let ran = chat(&["--ctx", "32", "-n", "1000", "--temp", "0"], "And the children of Israel\n");
    assert!(ran.stderr.contains("context is full: the reply was cut"), "{ran:?}");
    ran.ok();
}

#[test]
fn the_models_own_template_is_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    for file in
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    {
        std::fs::copy(demo.join(file), dir.path().join(file)).expect("a copy");
    }
    let model = dir.path().to_str().expect("a path in UTF-8");
    let prompt_ids = |more: &[&str]| {
        let ran = chat(&[&[model, "-n", "1", "--temp", "0"], more].concat(), "Hi\n/tokens\n");
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let line = ran.stderr.lines().find(|line| line.contains(" tokens of 512: ")).expect("the ids").to_owned();
        (line.split(": ").nth(1).expect("ids").to_owned(), ran.stderr.contains("no chat template"))
    };
    let (plain, noted) = prompt_ids(&[]);
    assert!(noted && plain.starts_with("0,"), "{plain}");
    // Special tokens in the text are tokens, BOS comes once.
    let template =
        "{{ bos_token }}{{ messages[0]['content'].strip() }}<|end_of_text|>{% if add_generation_prompt %}A{% endif %}";
    let config = dir.path().join("tokenizer_config.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&config).expect("the file")).expect("JSON");
    json["chat_template"] = template.into();
    std::fs::write(&config, json.to_string()).expect("written");
    let (ids, noted) = prompt_ids(&[]);
    let ids: Vec<&str> = ids.split(',').collect();
    assert!(!noted && ids[0] == "0" && ids[1] != "0" && ids[ids.len() - 2] == "1", "{ids:?}");
    // The file goes before the key, the option before both.
    std::fs::write(dir.path().join("chat_template.jinja"), "{{ bos_token }}B").expect("written");
    assert_eq!(prompt_ids(&[]).0.split(',').count(), 2);
    assert_eq!(prompt_ids(&["--template", "plain"]).0, plain);
    let file = dir.path().join("mine.jinja");
    std::fs::write(&file, template).expect("written");
    assert_eq!(
        prompt_ids(&["--template", file.to_str().expect("a path in UTF-8")]).0.split(',').collect::<Vec<_>>(),
        ids
    );

    // What is wrong with it is told before anything is compiled.
    for (text, message) in [
        ("{{ raise_exception('only cats may speak') }}", "refuses this conversation: only cats may speak"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "may never end"),
        ("{% if %}", "chat_template.jinja): syntax error"),
        ("", "makes an empty text"),
    ] {
        std::fs::write(dir.path().join("chat_template.jinja"), text).expect("written");
        let ran = chat(&[model, "-T"], "Hi\n");
        assert!(!ran.stderr.contains("codegen"), "{ran:?}");
        ran.refused(1, message);
    }
}

#[test]
fn templates_know_the_date() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "{{ bos_token }}{{ raise_exception(strftime_now('%A %d %B %Y')) }}").expect("written");
    let path = file.path().to_str().expect("a path in UTF-8");
    chat(&["--template", path, "--date", "2024-02-29"], "Hi\n").refused(1, "Thursday 29 February 2024");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (args, message) in [
        (&["--template", "nope"][..], "neither a file nor one of plain, llama3, chatml, bitnet"),
        (&["--date", "yesterday"], "expected YYYY-MM-DD"),
        (&["-n", "0"], "-n 1 or more"),
        (&["-f", "-"], "leave -f - out"),
        (&["-p", "a", "-f", "b"], "cannot be used with"),
        (&["--temp", "-1"], "temperature is -1"),
        (&["--kv", "f64"], "invalid value"),
    ] {
        chat(args, "Hi\n").refused(2, message);
    }
    for (args, message) in [
        (&["--load", "/no/such/file"][..], "cannot read /no/such/file"),
        (&["--save", "/no/such/folder/file"], "there is no folder"),
        (&["--template", "/dev/zero"], "not a regular file"),
        (&["-p", ""], "the prompt is empty"),
        (&["--ctx", "5000"], "--ctx 512 or less"),
    ] {
        chat(args, "Hi\n").refused(1, message);
    }
    let model = fixture("bitnet-packed");
    let dir = tempfile::tempdir().expect("a folder");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(model.join(file), dir.path().join(file)).expect("a copy");
    }
    run(&["chat", dir.path().to_str().expect("a path in UTF-8")]).refused(1, "no tokenizer.json");
}

#[test]
fn broken_input_ends_with_an_error() {
    for (input, code, message) in [
        (&b"/nope\n"[..], 2, "there is no command /nope"),
        (b"/set temp hot\n", 2, "needs a number"),
        (b"/set temp -1\n", 1, "temperature is -1"),
        (b"/undo\n", 1, "nothing to forget"),
        (b"/regen\n", 1, "no reply to make anew"),
        (b"/load /no/such/file\n", 1, "cannot read /no/such/file"),
        (b"\n\nab\xff\n", 1, "line 3 of standard input is not UTF-8 at byte 2"),
    ] {
        run_with_input(&["chat"], input).refused(code, message);
    }
    let long = vec![b'a'; (1 << 20) + 100];
    run_with_input(&["chat"], &long).refused(1, "line 1 of standard input has more than 1048576 bytes");
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("talk.json");
    for (text, message) in [
        ("{\"messages\": [{\"role\": \"king\", \"content\": \"\"}]}", "expected"),
        ("{\"messages\": [{\"role\": \"assistant\", \"content\": \"\"}]}", "user and assistant in turn"),
        ("\u{feff}", "expected {"),
    ] {
        std::fs::write(&path, text).expect("written");
        chat(&["--load", path.to_str().expect("a path in UTF-8")], "Hi\n").refused(1, message);
    }
    std::fs::File::create(&path).and_then(|file| file.set_len(17 << 20)).expect("a sparse file");
    chat(&["--load", path.to_str().expect("a path in UTF-8")], "Hi\n").refused(1, "expected at most 16777216");
}

/// Runs `tern chat` at a terminal of its own, on which `input` is typed; what was seen there. `None` without the program
/// `script`, which makes the terminal.
#[cfg(target_os = "linux")]
fn at_a_terminal(home: &Path, args: &str, input: &str) -> Option<String> {
    use std::io::Write;
    use std::process::Stdio;
    let typed = format!("{} chat {args}", env!("CARGO_BIN_EXE_tern"));
    let started = std::process::Command::new("script")
        .args(["-qec", &typed, "/dev/null"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH")?)
        .env("HOME", home)
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        // Set where nothing may be skipped.
        assert!(std::env::var_os("TERN_REQUIRE_QEMU").is_none(), "there is no program script");
        println!("skipped: script");
        return None;
    };
    child.stdin.as_mut().expect("standard input").write_all(input.as_bytes()).expect("typed");
    let output = child.wait_with_output().expect("it ends");
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{seen}");
    Some(seen)
}

#[cfg(target_os = "linux")]
#[test]
fn at_a_terminal_lines_are_remembered_and_mistakes_told() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().expect("a folder");
    let input = "And the children\n/nope\n\"\"\"\nsecond\nthird\n\"\"\"\n/stats\n/exit\n";
    let Some(seen) = at_a_terminal(home.path(), "--temp 0 -n 5", input) else { return };
    assert!(seen.contains("this is tern-demo") && seen.contains("there is no command /nope"), "{seen}");
    // A mistake ends nothing, and both messages were said.
    assert!(seen.contains("in 2 replies") && seen.contains("2 exchanges"), "{seen}");
    let history = home.path().join(".local/state/tern/chat_history");
    let text = std::fs::read_to_string(&history).expect("the history");
    assert!(text.contains("And the children\n") && text.contains("third\n"), "{text}");
    assert_eq!(std::fs::metadata(&history).expect("the history").permissions().mode() & 0o777, 0o600);
}
