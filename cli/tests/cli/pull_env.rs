//! `tern pull` in the surroundings that people have: no network allowed, several hubs, slow ones, certificates of their own.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::hub::{Fault, Hub};
use crate::support::{Ran, fixture, ran, run, text};

const MODEL: &str = "OWNER/NAME";
const PROMPT: [&str; 7] = ["-p", "Once upon a time", "-n", "8", "--temp", "0", "--print-ids"];

fn cache() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn offline(hub: &Hub, cache: &Path, args: &[&str]) -> Ran {
    ran(hub.tern(cache).env("HF_HUB_OFFLINE", "1").args(args))
}

#[test]
fn a_gguf_file_runs_under_its_name_on_the_hub() {
    let (dir, cache) = (cache(), cache());
    let file = dir.path().join("demo.gguf");
    run(&["export", "--format", "gguf", "-o", &text(&file)]).ok();
    let hub = Hub::new(&[
        ("README.md", b"# A model".to_vec(), false),
        ("demo.TQ1_0.gguf", std::fs::read(&file).expect("a file"), true),
    ]);
    let tern = |args: &[&str]| ran(hub.tern(cache.path()).args(args));
    let want = tern(&[&["run", &text(&file)][..], &PROMPT].concat()).ok();
    assert!(want.split(',').count() > 8, "{want}");
    let asked = [&["run", MODEL][..], &PROMPT].concat();
    assert_eq!(tern(&asked).ok(), want);
    // The second time nobody is asked, and with the hub's own word for it nobody may be.
    let requests = hub.requests("").len();
    assert_eq!(tern(&asked).ok(), want);
    assert_eq!(offline(&hub, cache.path(), &asked).ok(), want);
    assert_eq!(hub.requests("").len(), requests);
    assert!(tern(&["inspect", MODEL]).ok().contains("TQ1_0"));
}

#[test]
fn offline_nobody_is_asked() {
    let (hub, cache) = (Hub::of_fixture(&fixture("llama-bitlinear")), cache());
    for args in [&["pull", MODEL][..], &["run", MODEL, "--ids", "1"]] {
        let done = offline(&hub, cache.path(), args);
        assert_eq!(done.stderr.matches("HF_HUB_OFFLINE").count(), 1, "{done:?}");
        done.refused(1, "OWNER/NAME was not fetched before");
    }
    assert!(hub.requests("").is_empty());
    let path = ran(hub.tern(cache.path()).env("HF_HUB_OFFLINE", "0").args(["pull", MODEL])).ok();
    let requests = hub.requests("").len();
    assert_eq!(offline(&hub, cache.path(), &["pull", MODEL]).ok(), path);
    let json = offline(&hub, cache.path(), &["pull", MODEL, "--json"]).ok();
    assert!(json.contains("\"new_bytes\": 0") || json.contains("\"new_bytes\":0"), "{json}");
    offline(&hub, cache.path(), &["pull", MODEL, "--file", "m.gguf"]).refused(1, "not m.gguf");
    assert_eq!(hub.requests("").len(), requests);
}

#[test]
fn one_name_at_two_hubs_is_two_models() {
    let cache = cache();
    let [first, second] =
        [1, 2].map(|n| Hub::new(&[("config.json", vec![b'{', b'}'], false), ("model.safetensors", vec![n; 10], true)]));
    for (hub, n) in [(&first, 1), (&second, 2), (&first, 1)] {
        let path = ran(hub.tern(cache.path()).args(["pull", MODEL])).ok();
        let weights = Path::new(path.trim_end()).join("model.safetensors");
        assert!(weights.starts_with(hub.folder(cache.path())), "{}", weights.display());
        assert_eq!(std::fs::read(weights).expect("weights"), [n; 10]);
    }
    // The same server by another name or path is another hub: what is there is not known to be the same.
    let mirror = format!("http://127.0.0.1:{}/mirror/", first.port);
    let done = ran(first.tern(cache.path()).env("HF_HUB_OFFLINE", "1").args(["pull", MODEL, "--endpoint", &mirror]));
    done.refused(1, "was not fetched before");
    let listed = ran(first.tern(cache.path()).args(["cache", "list"])).ok();
    for hub in [&first, &second] {
        assert!(listed.contains(&format!("OWNER/NAME of http://127.0.0.1:{}", hub.port)), "{listed}");
    }
}

#[test]
fn a_server_that_only_trickles_is_given_up() {
    let (hub, cache) = (Hub::of_fixture(&fixture("llama-bitlinear")), cache());
    hub.fault("/large/", Fault::Trickle(100));
    let began = Instant::now();
    let done = ran(hub.tern(cache.path()).args(["pull", MODEL, "--pull-seconds", "1"]));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(done.stderr.contains("in 1 s, expected at least 65536"), "{done:?}");
    done.refused(1, "model.safetensors comes too slowly");
    assert_eq!(hub.requests("/large/").len(), 1);
    // What came is kept. Whoever has time may take it.
    let done = ran(hub.tern(cache.path()).env("TERN_PULL_SECONDS", "0").args(["pull", MODEL]));
    done.ok();
    let range = hub.requests("/large/")[1].header("range").map(str::to_owned);
    assert!(range.as_ref().is_some_and(|range| range != "bytes=0-"), "{range:?}");
}

#[test]
fn certificates_that_were_named_must_be_there() {
    let (hub, cache) = (Hub::of_fixture(&fixture("llama-bitlinear")), cache());
    let none = cache.path().join("none.pem");
    let pull = || ran(hub.tern(cache.path()).env("SSL_CERT_FILE", &none).args(["pull", MODEL]));
    pull().refused(1, "none.pem, which SSL_CERT_FILE names");
    std::fs::write(&none, "no certificate").expect("a file");
    pull().refused(1, "has no certificate");
    assert!(hub.requests("").is_empty());
}
