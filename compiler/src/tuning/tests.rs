//! Figures are kept, found, read back and chosen from as they say.

use super::choose::{self, Ask};
use super::*;
use crate::schedule::variant::Vectors;
use crate::strategy::Source;

fn cpu() -> Cpu {
    let [vendor, model, brand, level] = ["Maker", "6-1-2", "A \"fast\" one \\ 3", "avx512vbmi"].map(str::to_owned);
    Cpu { vendor, model, brand, level, cores: 2 }
}

fn figure(strategy: Strategy, work: Work, threads: u32, ns: f64) -> Figure {
    let (level, emitter) = (Isa::Avx512Vbmi, EmitterChoice::Auto);
    let key = Key { level, emitter, strategy, work, threads, zeros_percent: 0, model_mb: LARGE_MB };
    Figure { key, variant: Variant::default(), ns, spread: 0.01, repeats: 5 }
}

fn work(tokens: u32, cols: u32, rows: u32) -> Work {
    Work { tokens, cols, rows, pair: false, group: 0 }
}

fn sheet(figures: &[Figure]) -> Sheet {
    let mut sheet = Sheet::new(cpu(), "1.2.3");
    figures.iter().for_each(|figure| sheet.insert(*figure).expect("a figure in range"));
    sheet
}

fn query(strategy: Strategy, work: Work, threads: u32) -> Query {
    Query {
        level: Isa::Avx512Vbmi,
        emitter: EmitterChoice::Auto,
        strategy,
        work,
        threads,
        zeros: 0.0,
        model_mb: LARGE_MB,
    }
}

#[test]
fn the_exact_product_comes_first_then_the_nearest() {
    let narrow = Variant { vectors: Vectors::W256, ..Variant::default() };
    let slow = figure(Strategy::Dot2, work(1, 640, 2560), 1, 100.0);
    let fast = Figure { variant: narrow, ns: 80.0, ..slow };
    let all = sheet(&[
        slow,
        fast,
        figure(Strategy::Dot2, work(1, 2560, 2560), 1, 1000.0),
        figure(Strategy::Dot2, work(1, 640, 2560), 2, 60.0),
    ]);
    let figures = Figures::only(&all);
    let found = figures.find(&query(Strategy::Dot2, work(1, 640, 2560), 1)).expect("measured");
    assert_eq!((found.ns, found.variant, found.source.exact), (80.0, narrow, true));
    let found = figures.find(&query(Strategy::Dot2, work(1, 640, 1280), 1)).expect("near");
    assert_eq!((found.ns, found.variant, found.source.exact), (40.0, narrow, false));
    assert_eq!((found.source.work, found.source.origin), (work(1, 640, 2560), Origin::Measured));
    let found = figures.find(&query(Strategy::Dot2, work(1, 5120, 2560), 1)).expect("near");
    assert_eq!((found.ns, found.variant), (2000.0, Variant::default()));
    // The gated unit of two such takes twice as long; other threads come last.
    let gated = Work { pair: true, ..work(1, 640, 2560) };
    assert_eq!(figures.find(&query(Strategy::Dot2, gated, 1)).map(|found| found.ns), Some(160.0));
    let four = figures.find(&query(Strategy::Dot2, work(1, 640, 2560), 4)).expect("near");
    assert_eq!((four.ns, four.source.threads), (30.0, 2));
    // Another strategy, another regime.
    assert_eq!(figures.find(&query(Strategy::Dot5, work(1, 640, 2560), 1)), None);
    assert_eq!(figures.find(&query(Strategy::Dot2, work(2, 640, 2560), 1)), None);
    assert_eq!(Figures::none().find(&query(Strategy::Dot2, work(1, 640, 2560), 1)), None);
}

#[test]
fn figures_of_models_of_the_same_size_come_first() {
    let shape = work(1, 640, 2560);
    let in_model = |model_mb, ns| {
        let figure = figure(Strategy::Dot2, shape, 1, ns);
        Figure { key: Key { model_mb, ..figure.key }, ..figure }
    };
    let figures = Figures::only(&sheet(&[in_model(LARGE_MB, 100.0), in_model(4, 30.0)]));
    let find = |model_mb| figures.find(&Query { model_mb, ..query(Strategy::Dot2, shape, 1) }).expect("measured");
    let found = [1, 4, 16, 128, LARGE_MB].map(|model_mb| (find(model_mb).ns, find(model_mb).source.exact));
    assert_eq!(found, [(30.0, false), (30.0, true), (30.0, false), (100.0, false), (100.0, true)]);
    assert_eq!(find(2).source.model_mb, 4);
    let sizes = [0, 1, 1 << 20, (1 << 20) + 1, 5 << 20, 200 << 20, 257 << 20, u64::MAX];
    assert_eq!(sizes.map(model_mb), [1, 1, 1, 2, 8, 256, 256, 256]);
}

#[test]
fn batches_of_tokens_cost_what_whole_ones_do() {
    let figures = Figures::only(&sheet(&[figure(Strategy::Lut5, work(512, 640, 640), 1, 3200.0)]));
    let ns = |tokens| figures.find(&query(Strategy::Lut5, work(tokens, 640, 640), 1)).map(|found| found.ns);
    assert_eq!((ns(16), ns(9), ns(17)), (Some(100.0), Some(100.0), Some(200.0)));
}

/// A product on one thread of a level that has every kernel.
fn ask(work: Work) -> Ask {
    let (level, emitter) = (Isa::Avx512Vbmi, EmitterChoice::Auto);
    Ask { level, emitter, work, threads: 1, zeros: 0.0, program: None, without_zeros: false }
}

#[test]
fn the_cheapest_is_chosen_and_what_was_not_measured_is_not_taken_for_fast() {
    let shape = work(512, 2560, 2560);
    let measured = [figure(Strategy::Dot2, shape, 1, 4e9), figure(Strategy::Dot5, shape, 1, 3e9)];
    let figures = Figures::only(&sheet(&measured));
    let all = choose::all(&figures, &ask(shape));
    // Tables by their roofline alone would cost a hundredth of what was measured here.
    let tables = all.iter().filter(|choice| !matches!(choice.source, Source::Measured(_)));
    assert!(tables.clone().count() >= 2 && tables.clone().all(|choice| choice.ns > 1e9), "{all:?}");
    assert!(all.is_sorted_by(|a, b| a.ns <= b.ns));
    let measured = [figure(Strategy::Dot2, work(1, 64, 64), 1, 4e5), figure(Strategy::Dot5, work(1, 64, 64), 1, 3e5)];
    let best = choose::choose(&Figures::only(&sheet(&measured)), &ask(work(1, 2560, 2560))).expect("a strategy");
    assert_eq!(best.strategy, Strategy::Dot5);
    let untuned = choose::all(&Figures::none(), &ask(work(512, 2560, 6912)));
    assert!(matches!(untuned[0].strategy, Strategy::Lut5 | Strategy::Lut2), "{untuned:?}");
    let untuned = choose::all(&Figures::none(), &ask(work(1, 2560, 2560)));
    assert!(matches!(untuned[0].strategy, Strategy::Dot5 | Strategy::Dot2), "{untuned:?}");
}

#[test]
fn a_sheet_is_read_as_it_was_written() {
    let gated = Work { pair: true, ..work(512, 2560, 6912) };
    let narrow = Variant { vectors: Vectors::W128, ..Variant::default() };
    let small = figure(Strategy::Dot5, work(1, 640, 64), 1, 77.0);
    let full = sheet(&[
        figure(Strategy::Lut5, gated, 2, 1234567.5),
        figure(Strategy::Dot2, work(1, 640, 64), 1, 0.1 + 0.2),
        Figure { variant: narrow, ..figure(Strategy::Dot2, work(1, 640, 64), 1, 1e6) },
        Figure { key: Key { model_mb: 4, ..small.key }, ..small },
    ]);
    for sheet in [full.clone(), sheet(&[])] {
        let text = text::print(&sheet);
        let read = text::parse(&text, "x.toml").expect("its own text");
        assert_eq!(read, sheet);
        assert_eq!(text::print(&read), text);
    }
    assert_eq!(text::print(&full).lines().filter(|line| line.contains("strategy")).count(), 4);
}

#[test]
fn scales_per_group_have_figures_of_their_own() {
    let plain = work(1, 2048, 2048);
    let [of_64, of_128] = [64, 128].map(|group| Work { group, ..plain });
    let all = sheet(&[
        figure(Strategy::Dot2, plain, 1, 100.0),
        figure(Strategy::Dot2, of_128, 1, 120.0),
        figure(Strategy::Lut2, Work { tokens: 16, ..of_128 }, 1, 900.0),
    ]);
    let text = text::print(&all);
    assert_eq!(text.lines().filter(|line| line.contains("group = 128")).count(), 2);
    assert_eq!(text::parse(&text, "x").expect("its own text"), all);
    let figures = Figures::only(&all);
    let find = |work| figures.find(&query(Strategy::Dot2, work, 1)).map(|found| (found.ns, found.source.exact));
    assert_eq!(
        (find(plain), find(of_128), find(of_64)),
        (Some((100.0, true)), Some((120.0, true)), Some((120.0, false)))
    );
    // What nobody measured with groups is not answered by what has none.
    let none = Figures::only(&sheet(&[figure(Strategy::Dot2, plain, 1, 100.0)]));
    assert_eq!(none.find(&query(Strategy::Dot2, of_128, 1)), None);
    let wrong = |work: Work, strategy| {
        let mut sheet = sheet(&[]);
        sheet.insert(figure(strategy, work, 1, 1.0)).expect_err("refused").to_string()
    };
    assert!(wrong(Work { group: 100, ..plain }, Strategy::Dot2).contains("group is 100"));
    assert!(wrong(Work { pair: true, ..of_128 }, Strategy::Dot2).contains("0 of a gated unit"));
    assert!(wrong(of_128, Strategy::Dot5).contains("no kernel"));
}

#[test]
fn groups_without_figures_are_priced_by_products_without_them() {
    let plain = work(1, 2048, 2048);
    let figures = Figures::only(&sheet(&[figure(Strategy::Dot2, plain, 1, 1_000_000.0)]));
    let all = choose::all(&figures, &ask(Work { group: 128, ..plain }));
    let [only] = all[..] else { panic!("dot2 alone: {all:?}") };
    assert!(matches!(only.source, Source::Scaled { .. }) && only.strategy == Strategy::Dot2, "{only:?}");
    assert!((1e6..1.5e6).contains(&only.ns), "more than without groups, not by much: {only:?}");
    let many = choose::all(&figures, &ask(Work { group: 128, tokens: 512, ..plain }));
    assert_eq!(many.iter().filter(|c| [Strategy::Dot2, Strategy::Lut2].contains(&c.strategy)).count(), many.len());
}

#[test]
fn texts_that_cannot_be_are_refused_with_their_line() {
    let good = text::print(&sheet(&[figure(Strategy::Dot2, work(1, 640, 64), 1, 100.0)]));
    let row = good.lines().position(|line| line.contains("dot2")).expect("a figure") + 1;
    for (from, to, says) in [
        ("ns = 100.0", "ns = nan", "ns is NaN"),
        ("ns = 100.0", "ns = -1.0", "ns is -1"),
        ("ns = 100.0", "ns = inf", "ns is inf"),
        ("ns = 100.0", "ns = \"fast\"", "invalid type"),
        ("spread = 0.01", "spread = 1e9", "spread is"),
        ("repeats = 5", "repeats = 0", "repeats is 0"),
        ("cols = 640", "cols = 640000", "cols is 640000"),
        ("rows = 64", "rows = 4294967295", "rows is"),
        ("rows = 64", "rows = 4294967296", "invalid value"),
        ("threads = 1", "threads = 0", "threads is 0"),
        ("tokens = 1", "tokens = 100000", "tokens is"),
        ("tokens = 1,", "tokens = 1, zeros_percent = 7,", "zeros_percent is 7"),
        ("tokens = 1,", "tokens = 1, model_mb = 3,", "model_mb is 3"),
        ("tokens = 1,", "tokens = 1, model_mb = 0,", "model_mb is 0"),
        ("tokens = 1,", "tokens = 1, model_mb = 512,", "model_mb is 512"),
        ("tokens = 1,", "tokens = 1, colour = 7,", "unknown field"),
        ("\"dot2\"", "\"dot3\"", "unknown strategy \"dot3\""),
        ("\"dot2\"", "\"any\"", "unknown strategy"),
        ("\"dot2\"", "\"addsub\"", "no kernel"),
        ("\"auto\"", "\"mine\"", "unknown emitter"),
        ("level = \"avx512vbmi\", emitter", "level = \"mmx\", emitter", "unknown level"),
        ("variant = \"default\"", "variant = \"u3\"", "no kernel"),
        ("variant = \"default\"", "variant = \"u99\"", "found the variant"),
    ] {
        assert!(good.contains(from), "{from}");
        let wrong = text::parse(&good.replace(from, to), "x.toml").expect_err(to).to_string();
        assert!(wrong.contains(says) && wrong.starts_with(&format!("x.toml:{row}: ")), "{wrong}");
    }
    let line = good.lines().nth(row - 1).expect("the figure");
    let twice = good.replace(line, &format!("{line}\n{line}"));
    assert!(text::parse(&twice, "x").expect_err("twice").to_string().contains("a second figure"));
    for (wrong, says) in [
        ("", "missing field"),
        ("figures = 1", "expected a file"),
        ("\u{0}", "expected a file"),
        (&"[".repeat(100_000), "expected a file"),
        (&good.replace("cores = 2", "cores = 0"), "cores is 0"),
        (&good.replace("Maker", &"M".repeat(101)), "plain texts"),
        (&good.replace("Maker", "M\\u0007"), "plain texts"),
    ] {
        let error = text::parse(wrong, "x.toml").expect_err("refused").to_string();
        assert!(error.contains(says), "{error}");
    }
    let long = "#".repeat(text::MAX_BYTES as usize + 1);
    assert!(matches!(text::parse(&long, "x"), Err(text::TextError::TooLong { .. })));
}

#[test]
fn only_figures_of_one_cpu_and_one_tern_are_merged() {
    let shape = work(1, 640, 64);
    let old = figure(Strategy::Dot2, shape, 1, 100.0);
    let other = figure(Strategy::Dot5, shape, 1, 50.0);
    let mut ours = sheet(&[old]);
    let better = Figure { ns: 90.0, repeats: 9, ..old };
    assert_eq!(ours.merge(&sheet(&[better, other])), Ok(2));
    assert_eq!(ours.get(&old.key, old.variant), Some(&better));
    assert_eq!(ours.merge(&sheet(&[old])), Ok(0), "fewer repeats");
    let newer = Figure { ns: 95.0, ..better };
    assert_eq!(ours.merge(&sheet(&[newer])), Ok(1), "as many: the later one");
    let before = ours.clone();
    let moved = Sheet::new(Cpu { model: "6-1-3".to_owned(), ..cpu() }, "1.2.3");
    assert!(ours.merge(&moved).expect_err("another CPU").to_string().contains("another CPU"));
    let aged = Sheet::new(cpu(), "1.2.4");
    assert!(ours.merge(&aged).expect_err("another tern").to_string().contains("found 1.2.4, expected 1.2.3"));
    assert_eq!(ours, before);
}

#[test]
fn what_is_deferred_is_read_when_it_is_asked() {
    let all = sheet(&[figure(Strategy::Dot2, work(1, 640, 64), 1, 100.0)]);
    let ask = query(Strategy::Dot2, work(1, 640, 64), 1);
    let text = text::print(&all);
    let deferred = Figures::deferred(text.clone(), cpu(), "1.2.3");
    let shown = format!("{deferred:?}");
    assert_eq!(deferred.find(&ask).map(|found| found.ns), Some(100.0));
    assert_eq!((deferred.ready(), format!("{deferred:?}")), (Ok(()), shown.clone()), "asking changes nothing");
    assert_eq!(deferred, Figures::new(&all));
    let other = Figures::deferred(text.replace("ns = 100.0", "ns = 101.0"), cpu(), "1.2.3");
    assert!(other != deferred && format!("{other:?}") != shown);
    let aged = Figures::deferred(text, cpu(), "1.2.4");
    assert!(aged.ready().is_err_and(|why| why.contains("another version")));
    assert!(Figures::deferred("nonsense".to_owned(), cpu(), "1.2.3").ready().is_err());
    assert!(Figures::none() != Figures::built_in());
}
