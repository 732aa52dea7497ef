//! `tern pull`, and OWNER/NAME for MODEL, against a server that imitates a hub.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::hub::{COMMIT, Fault, Hub};
use crate::support::{Ran, fixture, names, ran, text};

const MODEL: &str = "OWNER/NAME";
const WEIGHTS: &str = "model.safetensors";
const TOKEN: &str = "hf_thisisasecret";

fn cache() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn hub() -> Hub {
    Hub::of_fixture(&fixture("llama-bitlinear"))
}

fn pull(hub: &Hub, cache: &Path) -> Ran {
    ran(hub.tern(cache).args(["pull", MODEL]))
}

/// Where the model lies.
fn folder(hub: &Hub, cache: &Path) -> PathBuf {
    hub.folder(cache).join(format!("OWNER--NAME/{COMMIT}/NAME"))
}

fn same_weights(hub: &Hub, cache: &Path) {
    let fetched = std::fs::read(folder(hub, cache).join(WEIGHTS)).expect("weights");
    assert!(fetched == std::fs::read(fixture("llama-bitlinear").join(WEIGHTS)).expect("weights"));
}

#[test]
fn what_is_read_is_fetched_once_and_checked() {
    let (hub, cache) = (hub(), cache());
    let path = pull(&hub, cache.path()).ok();
    assert_eq!(path.trim_end(), text(&folder(&hub, cache.path())));
    let expected = ["config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(&folder(&hub, cache.path())), expected);
    same_weights(&hub, cache.path());
    // The second time nothing is fetched but the list.
    let files = hub.requests("/resolve/").len();
    assert_eq!(files, 4);
    let json = ran(hub.tern(cache.path()).args(["pull", MODEL, "--json"])).ok();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["new_bytes"], &json["commit"]), (&0.into(), &COMMIT.into()));
    assert_eq!((hub.requests("/resolve/").len(), hub.requests("/api/").len()), (files, 2));
}

#[test]
fn a_model_that_was_fetched_runs_without_a_network() {
    let (hub, cache) = (hub(), cache());
    let run = |model: &str, hub: &Hub| {
        ran(hub.tern(cache.path()).args(["run", model, "--ids", "1,2,3", "-n", "4", "--print-ids", "--temp", "0"]))
    };
    // Fetched by whoever needs it first.
    let first = run(MODEL, &hub).ok();
    assert_eq!(first, run(&text(&fixture("llama-bitlinear")), &hub).ok());
    let asked = hub.requests("").len();
    hub.fault("", Fault::Status(404));
    assert_eq!(run(MODEL, &hub).ok(), first);
    assert_eq!(hub.requests("").len(), asked);
    let inspected = ran(hub.tern(cache.path()).args(["inspect", MODEL])).ok();
    assert!(inspected.contains("NAME"), "{inspected}");
    // It is listed, and goes when asked to.
    let list = |args: &[&str]| ran(hub.tern(cache.path()).args(args)).ok();
    let listed = list(&["cache", "list"]);
    assert!(
        listed.contains(&format!("OWNER/NAME of http://127.0.0.1:{}", hub.port)) && listed.contains(&COMMIT[..12]),
        "{listed}"
    );
    assert!(list(&["cache", "list", "--json"]).contains(COMMIT));
    list(&["cache", "clear"]);
    assert!(folder(&hub, cache.path()).exists());
    list(&["cache", "clear", "--fetched"]);
    assert!(!folder(&hub, cache.path()).exists() && !list(&["cache", "list"]).contains("OWNER"));
}

#[test]
fn a_command_looks_where_its_own_option_says() {
    let (hub, named, usual) = (hub(), cache(), cache());
    let to = text(named.path());
    ran(hub.tern(usual.path()).args(["pull", MODEL, "--cache-dir", &to])).ok();
    assert!(folder(&hub, named.path()).exists() && !folder(&hub, usual.path()).exists());
    hub.fault("", Fault::Status(404));
    let asked = hub.requests("").len();
    let run = ["run", MODEL, "--ids", "1,2,3", "-n", "4", "--print-ids", "--temp", "0"];
    ran(hub.tern(usual.path()).args(run).args(["--cache-dir", &to])).ok();
    assert_eq!(hub.requests("").len(), asked);
    let elsewhere = ran(hub.tern(usual.path()).args(run));
    assert_eq!(elsewhere.code, Some(1), "{}", elsewhere.stderr);
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let (hub, cache) = (hub(), cache());
    let done = ran(hub.tern(cache.path()).env("HF_TOKEN", TOKEN).args(["pull", MODEL]));
    assert!(!done.stderr.contains(TOKEN));
    done.ok();
    let bearer = format!("Bearer {TOKEN}");
    assert!(hub.requests("OWNER").iter().all(|request| request.header("authorization") == Some(&bearer)));
    let elsewhere = hub.requests("/large/");
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|request| request.header("authorization").is_none()));
    // Nor is it written down.
    let note = hub.folder(cache.path()).join("OWNER--NAME/main.json");
    assert!(!std::fs::read_to_string(note).expect("a note").contains(TOKEN));
}

#[test]
fn after_a_break_only_the_rest_is_fetched() {
    let (hub, cache) = (hub(), cache());
    hub.fault("/large/", Fault::Cut(100_000));
    hub.fault("/large/", Fault::Cut(50_000));
    hub.fault("/resolve/", Fault::Status(503));
    pull(&hub, cache.path()).ok();
    same_weights(&hub, cache.path());
    let ranges: Vec<_> = hub.requests("/large/").iter().map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-".into()), Some("bytes=150000-".into())]);
}

#[test]
fn a_start_that_was_killed_is_gone_on_with() {
    let (hub, cache) = (hub(), cache());
    hub.fault("/large/", Fault::Stall(300_000));
    let mut command = hub.tern(cache.path());
    let mut child = command.args(["pull", MODEL]).stderr(Stdio::null()).spawn().expect("tern starts");
    let part = folder(&hub, cache.path()).join(".model.safetensors.part");
    let began = std::time::Instant::now();
    while part.metadata().map_or(0, |meta| meta.len()) < 300_000 {
        assert!(began.elapsed().as_secs() < 60, "nothing came");
        std::thread::yield_now();
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(!folder(&hub, cache.path()).join(WEIGHTS).exists());
    pull(&hub, cache.path()).ok();
    same_weights(&hub, cache.path());
    assert_eq!(hub.requests("/large/")[1].header("range"), Some("bytes=300000-"));
    assert!(!part.exists());
}

#[test]
fn a_server_may_give_all_bytes_again() {
    let (hub, cache) = (hub(), cache());
    hub.fault("/large/", Fault::Cut(100_000));
    hub.fault("/large/", Fault::IgnoreRange);
    pull(&hub, cache.path()).ok();
    same_weights(&hub, cache.path());
}

#[test]
fn damaged_bytes_are_not_kept() {
    for (path, file) in [("/large/", WEIGHTS), ("config.json", "config.json")] {
        let (hub, cache) = (hub(), cache());
        hub.fault(path, Fault::Corrupt);
        let done = pull(&hub, cache.path());
        assert!(!done.stderr.contains("hush"), "{done:?}");
        done.refused(1, &format!("{file} of OWNER/NAME came from 127.0.0.1:{} with another sum", hub.port));
        let left = names(&folder(&hub, cache.path()));
        assert!(!left.iter().any(|name| name.contains(file)), "{left:?}");
        pull(&hub, cache.path()).ok();
        same_weights(&hub, cache.path());
    }
    // What an earlier start left may be the damage.
    let (hub, cache) = (hub(), cache());
    std::fs::create_dir_all(folder(&hub, cache.path())).expect("a folder");
    for (found, asked) in [(vec![7; 1000], 2), (vec![7; 2_000_000], 1)] {
        let _ = std::fs::remove_file(folder(&hub, cache.path()).join(WEIGHTS));
        std::fs::write(folder(&hub, cache.path()).join(".model.safetensors.part"), found).expect("a file");
        let before = hub.requests("/large/").len();
        pull(&hub, cache.path()).ok();
        same_weights(&hub, cache.path());
        assert_eq!(hub.requests("/large/").len() - before, asked);
    }
}

#[test]
fn servers_that_lie_are_refused() {
    for (before, fault, message) in [
        (None, Fault::Longer, "more bytes come of model.safetensors"),
        (None, Fault::OtherLength, "and the hub lists"),
        (Some(Fault::Cut(1000)), Fault::OtherRange, "other bytes of model.safetensors"),
        (None, Fault::Redirect("file:///etc/passwd".into()), "redirects to something else than a URL"),
        (None, Fault::Redirect("relative".into()), "redirects to something else than a URL"),
    ] {
        let (hub, cache) = (hub(), cache());
        before.into_iter().for_each(|before| hub.fault("/large/", before));
        hub.fault("/large/", fault);
        pull(&hub, cache.path()).refused(1, message);
        assert!(!folder(&hub, cache.path()).join(WEIGHTS).exists());
        // Nothing of it counts as fetched.
        hub.fault("/api/", Fault::Status(404));
        ran(hub.tern(cache.path()).args(["run", MODEL, "--ids", "1"])).refused(1, "could not be fetched");
    }
    let (hub, cache) = (hub(), cache());
    for _ in 0..20 {
        hub.fault("", Fault::Redirect(format!("http://127.0.0.1:{}/again", hub.elsewhere)));
    }
    pull(&hub, cache.path()).refused(1, "redirects more than 8 times");
    let file = |name: &str| format!(r#"{{"rfilename": "{name}", "size": 2, "blobId": "{}"}}"#, "0".repeat(40));
    let large = |name: &str| file(name).replace(": 2,", &format!(": {},", u64::MAX));
    let listing = |sha: &str, files: &str| format!(r#"{{"sha": "{sha}", "siblings": [{files}]}}"#);
    for (json, message) in [
        (listing("../../x", ""), "is at commit"),
        ("[".repeat(100_000), "the hub's answer about OWNER/NAME is none"),
        (listing(COMMIT, &file("../config.json")), "neither config.json"),
        (listing(COMMIT, r#"{"rfilename": "m.gguf", "size": 2}"#), "no size or no sum"),
        (
            listing(COMMIT, &[large("m-00001-of-00002.gguf"), large("m-00002-of-00002.gguf")].join(",")),
            "expected at most",
        ),
    ] {
        let hub = self::hub();
        hub.fault("/api/", Fault::Listing(json));
        pull(&hub, cache.path()).refused(1, message);
    }
}

#[test]
fn refusals_say_what_to_do() {
    for (faults, token, message) in [
        (vec![404], None, "has no OWNER/NAME (404"),
        (vec![401], None, "set HF_TOKEN"),
        (vec![403], Some(TOKEN), "to the holder of HF_TOKEN"),
        (vec![503; 5], None, "answers 503"),
        (vec![400], None, "answers 400"),
    ] {
        let (hub, cache) = (hub(), cache());
        let n = faults.len();
        faults.into_iter().for_each(|status| hub.fault("/api/", Fault::Status(status)));
        let mut command = hub.tern(cache.path());
        if let Some(token) = token {
            command.env("HF_TOKEN", token);
        }
        let done = ran(command.args(["pull", MODEL]));
        assert!(!done.stderr.contains(TOKEN));
        done.refused(1, message);
        assert_eq!(hub.requests("/api/").len(), n);
    }
    let (hub, cache) = (hub(), cache());
    hub.fault("/api/", Fault::Status(500));
    hub.fault("/api/", Fault::Status(429));
    pull(&hub, cache.path()).ok();
    ran(hub.tern(cache.path()).args(["pull", "no-model"])).refused(2, "expected OWNER/NAME");
    ran(hub.tern(cache.path()).env("HF_ENDPOINT", "ftp://x").args(["pull", MODEL]))
        .refused(1, "the hub is \"ftp://x\"");
}

#[test]
fn without_a_network_there_is_one_clear_error() {
    let (hub, cache) = (hub(), cache());
    // Nobody listens there: the port was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    for args in [&["pull", MODEL][..], &["run", MODEL, "-p", "a"]] {
        let endpoint = format!("http://127.0.0.1:{closed}");
        let done = ran(hub.tern(cache.path()).env("HF_ENDPOINT", endpoint).args(args));
        assert_eq!(done.stderr.matches("cannot reach 127.0.0.1").count(), 1, "{done:?}");
        done.refused(1, "without a network, give the folder of a model");
    }
}

#[test]
fn paths_stay_paths() {
    let (hub, cache) = (hub(), cache());
    std::fs::create_dir(cache.path().join("OWNER")).expect("a folder");
    // The folder OWNER is here, so the model is expected in it.
    let mut command = hub.tern(cache.path());
    ran(command.current_dir(cache.path()).args(["run", MODEL, "-p", "a"])).refused(1, "no such file or folder");
    assert!(hub.requests("").is_empty());
}

#[test]
fn of_several_gguf_files_one_is_named() {
    let part = |n: u8| vec![n; 50_000];
    let (hub, cache) = (
        Hub::new(&[
            ("a-q4.gguf", part(1), true),
            ("sub/a-tq2.gguf", part(2), true),
            ("b-00001-of-00002.gguf", part(3), true),
            ("b-00002-of-00002.gguf", part(4), true),
        ]),
        cache(),
    );
    let done = pull(&hub, cache.path());
    assert!(
        done.stderr.contains("a-q4.gguf") && done.stderr.contains("b-00001-of-00002.gguf and 1 more part"),
        "{done:?}"
    );
    done.refused(1, "choose one with --file NAME");
    let chosen = |name: &str| ran(hub.tern(cache.path()).args(["pull", MODEL, "--file", name])).ok();
    assert_eq!(chosen("a-tq2.gguf").trim_end(), text(&folder(&hub, cache.path()).join("sub/a-tq2.gguf")));
    assert_eq!(
        chosen("b-00001-of-00002.gguf").trim_end(),
        text(&folder(&hub, cache.path()).join("b-00001-of-00002.gguf"))
    );
    let there = names(&folder(&hub, cache.path()));
    assert_eq!(there, ["b-00001-of-00002.gguf", "b-00002-of-00002.gguf", "sub"]);
    // What was named last is what OWNER/NAME means; that these bytes are no model is the reader's to say.
    ran(hub.tern(cache.path()).args(["inspect", MODEL])).refused(1, "b-00001-of-00002.gguf");
}

#[test]
fn an_index_says_which_weights() {
    let index =
        br#"{"weight_map": {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"}}"#;
    let hub = Hub::new(&[
        ("config.json", b"{}".to_vec(), false),
        ("model.safetensors.index.json", index.to_vec(), false),
        ("model-00001-of-00002.safetensors", vec![1; 10], true),
        ("model-00002-of-00002.safetensors", Vec::new(), true),
        ("extra.safetensors", vec![3; 10], true),
    ]);
    let cache = cache();
    pull(&hub, cache.path()).ok();
    assert_eq!(names(&folder(&hub, cache.path())).len(), 4);
}

#[test]
fn files_of_one_name_in_two_folders_are_two() {
    let files = ["m.gguf", "a/m.gguf", "b/m.gguf"];
    let bytes = |name: &str| vec![name.as_bytes()[0]; 1000];
    let (hub, cache) = (Hub::new(&files.map(|name| (name, bytes(name), true))), cache());
    for name in files.iter().chain(&files) {
        let path = ran(hub.tern(cache.path()).args(["pull", MODEL, "--file", name])).ok();
        assert_eq!(path.trim_end(), text(&folder(&hub, cache.path()).join(name)));
        assert!(std::fs::read(path.trim_end()).expect("a file") == bytes(name), "{name}");
        // It is what OWNER/NAME means from now on; the reader shows the first bytes of what is no model.
        ran(hub.tern(cache.path()).args(["inspect", MODEL])).refused(1, &format!("[{:02x}, ", bytes(name)[0]));
        assert!(ran(hub.tern(cache.path()).args(["cache", "list"])).ok().contains("OWNER/NAME"));
    }
    assert_eq!(hub.requests("/large/").len(), files.len());
}

#[test]
fn what_is_there_counts_by_its_sum() {
    let (hub, cache) = (hub(), cache());
    pull(&hub, cache.path()).ok();
    let weights = folder(&hub, cache.path()).join(WEIGHTS);
    let mut bytes = std::fs::read(&weights).expect("weights");
    bytes[1000] ^= 1;
    std::fs::write(&weights, &bytes).expect("a file");
    pull(&hub, cache.path()).ok();
    same_weights(&hub, cache.path());
    assert_eq!(hub.requests("/large/").len(), 2);
    // Right files of which nothing is noted are not fetched again.
    std::fs::remove_file(folder(&hub, cache.path()).with_file_name(".sums.json")).expect("a note");
    pull(&hub, cache.path()).ok();
    assert_eq!(hub.requests("/large/").len(), 2);
}

#[test]
fn a_server_that_begins_again_and_again_is_given_up() {
    let (hub, cache) = (hub(), cache());
    let all = std::fs::read(fixture("llama-bitlinear").join(WEIGHTS)).expect("weights");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("http://{}/", listener.local_addr().expect("an address"));
    // Whatever part is asked for, it gives the first bytes and ends. The third attempt comes furthest, four more no further.
    let lengths = [5000, 5000, 6000, 5000, 6000, 10, 6000];
    // If it is asked once more it gives everything, and the test fails.
    lengths.iter().for_each(|_| hub.fault(&format!("/resolve/{COMMIT}/{WEIGHTS}"), Fault::Redirect(to.clone())));
    std::thread::spawn(move || {
        for (length, stream) in lengths.into_iter().zip(listener.incoming()) {
            let mut stream = stream.expect("a connection");
            let end = BufReader::new(&stream).lines().map_while(Result::ok).find(|line| line.is_empty());
            assert!(end.is_some());
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", all.len());
            stream.write_all(&[head.as_bytes(), &all[..length]].concat()).expect("it is read");
        }
    });
    let began = Instant::now();
    pull(&hub, cache.path()).refused(1, "after 6000 ");
    // With pauses between them.
    assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(hub.requests(&format!("/resolve/{COMMIT}/{WEIGHTS}")).len(), lengths.len());
    assert!(hub.requests("/large/").is_empty() && !folder(&hub, cache.path()).join(WEIGHTS).exists());
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let victim = cache();
    let victim = victim.path().join("victim");
    std::fs::write(&victim, "mine").expect("a file");
    for (place, message) in [
        ("../../.lock", Some("is a link or no file")),
        ("../../main.json", Some("is a link or no file")),
        ("../.sums.json", Some("is a link or no file")),
        (".model.safetensors.part", Some("is a link or no file")),
        (WEIGHTS, None),
    ] {
        let (hub, cache) = (hub(), cache());
        let folder = folder(&hub, cache.path());
        std::fs::create_dir_all(&folder).expect("a folder");
        // The folder of fetched models is for its owner alone.
        for folder in folder.ancestors().take_while(|folder| *folder != cache.path()) {
            std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a mode");
        }
        std::os::unix::fs::symlink(&victim, folder.join(place)).expect("a link");
        let done = pull(&hub, cache.path());
        match message {
            Some(message) => done.refused(1, message),
            None => {
                done.ok();
                same_weights(&hub, cache.path());
            }
        };
        assert_eq!(std::fs::read_to_string(&victim).expect("a file"), "mine", "{place}");
    }
}

#[test]
fn the_whole_name_of_a_file_is_no_doubt() {
    let (hub, cache) = (Hub::new(&[("m.gguf", vec![1; 100], true), ("sub/m.gguf", vec![2; 100], true)]), cache());
    for name in ["m.gguf", "sub/m.gguf"] {
        let path = ran(hub.tern(cache.path()).args(["pull", MODEL, "--file", name])).ok();
        assert_eq!(path.trim_end(), text(&folder(&hub, cache.path()).join(name)));
    }
}
