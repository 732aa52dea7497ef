//! The C ABI as a header: `compiler/src/generated/header.h.in`, in which the compiler names the model.

use std::fmt::Write as _;

use super::PREFIX;
use crate::tables::{AbiArg, AbiFunction, AbiTable};

/// Columns of a line.
const WIDTH: usize = 110;

/// How to use a model, for whoever opens the header: terms and what is to be known of them.
pub(super) const GUIDE: &[(&str, &str)] = &[
    (
        "",
        "A language or embedding model compiled by tern: machine code and tables. The code calls no library, allocates nothing and keeps \
         nothing but what lies in the caller's state block: several states, and several models of different prefixes, live \
         side by side.",
    ),
    (
        "weights",
        "If PREFIX_HAS_WEIGHTS is 1 they are PREFIX_weights. Otherwise they are in the file beside this header: map it, or read \
         it into memory aligned to TERN_ALIGN_BYTES. A map costs nothing until it is read, and may be longer than memory or \
         4 GiB; a copy in huge pages (madvise) is read faster. PREFIX_info has the length and the hash that they must have.",
    ),
    (
        "state",
        "PREFIX_state_bytes(context, 1, TERN_KV_F16) zeroed bytes, aligned to TERN_ALIGN_BYTES, then once \
         PREFIX_state_init(state, context, 1, TERN_KV_F16, features). It holds the keys and values of the tokens so far.",
    ),
    (
        "features",
        "What this CPU has. x86-64: 0, and the code asks the CPU itself. aarch64: TERN_FEATURE_NEON, and with \
         getauxval(AT_HWCAP) & HWCAP_ASIMDDP also TERN_FEATURE_DOTPROD. riscv64: TERN_FEATURE_RVV if \
         getauxval(AT_HWCAP) & 1 << ('V' - 'A'), else the code cannot run. There 0 stands for the least that the code needs.",
    ),
    (
        "step",
        "PREFIX_step(weights, state, ids, n, pos, 0, TERN_WANT_LAST, logits, tid, n_threads, barrier, ctx): n ids at positions \
         pos, pos + 1, ... of sequence 0. The first step of a text is at pos 0, the next at the n of the first. Texts longer than \
         max_step_tokens take several steps, with TERN_WANT_NONE for all but the last.",
    ),
    (
        "threads",
        "n_threads threads call PREFIX_step with the same arguments but for tid, 0 to n_threads - 1, and get the same status. \
         barrier(ctx) returns on none of them before all have called it, makes what each wrote before visible to all, and is \
         called many times in a step. With one thread it may do nothing.",
    ),
    (
        "logits",
        "One float for each token of the vocabulary; the largest is that of the likeliest next token. To choose among the k \
         largest, ask for TERN_WANT_TOP_K | k << 8: out gets k ids as uint32_t, then their k logits, the largest first.",
    ),
    (
        "embeddings",
        "If the kind of PREFIX_info is TERN_MODEL_EMBEDS, a row has out_elems floats: end a text with the first id of eos, and \
         its last row, of length 1, is the embedding. The state is better made with TERN_KV_F32.",
    ),
    (
        "batch",
        "PREFIX_batch(weights, state, ids, pieces, n_pieces, TERN_WANT_LAST, out, ...) is a step over several texts: for as many \
         short texts as fit in max_step_tokens the weights are read once. Pieces {n, 0, 0, row} with row the tokens before them \
         are whole texts, which share the memory of sequence 0; pieces {n, pos, seq, 0} are the next tokens of different sequences.",
    ),
    (
        "text",
        "PREFIX_tokens has the bytes of every token, and the merges that make ids of a text. A text starts with the id bos.",
    ),
    ("end", "There is nothing to close: give back the memory of the state."),
    ("", "Whatever the number of threads and the lengths of the steps, the results are the same, bit for bit."),
];

/// The template.
pub(super) fn header(table: &AbiTable) -> String {
    let mut out = "/* Written by the generator of `ir-specs` from `abi.toml`, and by the compiler of the model. Do not edit.\n *\n".to_owned();
    for (term, text) in GUIDE {
        let hanging = if term.is_empty() { "" } else { "          " };
        let start = if term.is_empty() { String::new() } else { format!("{term:<10}") };
        let text = text.replace("PREFIX", PREFIX);
        for (i, line) in wrapped(&text, WIDTH - 3 - hanging.len()).iter().enumerate() {
            let _ = writeln!(out, " * {}{line}", if i == 0 { &start } else { hanging });
        }
        // A paragraph of its own, at either end.
        out += if matches!(*term, "" | "end") && !text.ends_with("bit.") { " *\n" } else { "" };
    }
    let _ =
        write!(out, " */\n\n#ifndef TERN_MODEL_{PREFIX}_H\n#define TERN_MODEL_{PREFIX}_H\n\n#include <stdint.h>\n\n");
    out += "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n";
    let version = table.constants.iter().find(|c| c.name == "ABI_VERSION").map_or(0, |c| c.value);
    out += &comment(
        "What all models of one version of the ABI have in common; the headers of several may be included together.",
        "",
    );
    out += "#ifndef TERN_ABI_VERSION\n";
    out += &common(table);
    let _ = write!(
        out,
        "\n#elif TERN_ABI_VERSION != {version}\n#error \"this model was built for another version of tern's ABI than the one before it\"\n#endif\n"
    );
    out += "\n/* This model. */\n\n/* 1: it carries its weights, as data. 0: they are in the file beside it. */\n";
    let _ = writeln!(out, "#define {PREFIX}_HAS_WEIGHTS __HAS_WEIGHTS__");
    for d in &table.data {
        out += "\n";
        out += &comment(&d.doc, "");
        let (ty, array) = if d.ty == "[u8]" { ("u8", "[]") } else { (d.ty.as_str(), "") };
        let declared = format!("extern const {} {PREFIX}_{}{array};\n", c_type(table, ty), d.c_name);
        out += &if d.optional { format!("#if {PREFIX}_HAS_WEIGHTS\n{declared}#endif\n") } else { declared };
    }
    for f in table.functions.iter().filter(|f| !f.callback) {
        out += "\n";
        out += &comment(&described(f), "");
        out += &(declared(table, f, "", &format!("{PREFIX}_{}", f.c_name)) + "\n");
    }
    out + "\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n"
}

/// Constants and types.
fn common(table: &AbiTable) -> String {
    let mut out = String::new();
    let mut group = "";
    for c in &table.constants {
        if c.group != group {
            group = &c.group;
            let _ = write!(out, "\n/* {group} */\n");
        }
        let define = format!("#define TERN_{} UINT32_C({})", c.name, c.value);
        let beside = format!("{define:<44} /* {} */", c_names(&c.doc));
        // Long ones stand above, so that lines stay short.
        if beside.len() <= WIDTH {
            let _ = writeln!(out, "{beside}");
        } else {
            let _ = writeln!(out, "{}{define}", comment(&c.doc, ""));
        }
    }
    for s in &table.structs {
        let _ = write!(out, "\n{}typedef struct tern_{} {{\n", comment(&s.doc, ""), s.c_name);
        for AbiArg { name, ty, doc } in &s.fields {
            let field = match array(ty) {
                Some((element, elems)) => format!("    {} {name}[{elems}];", c_type(table, element)),
                None => format!("    {} {name};", c_type(table, ty)),
            };
            let beside = format!("{field:<30} /* {} */", c_names(doc));
            if beside.len() <= WIDTH {
                let _ = writeln!(out, "{beside}");
            } else {
                let _ = writeln!(out, "{}{field}", comment(doc, "    "));
            }
        }
        let _ = writeln!(out, "}} tern_{};", s.c_name);
    }
    for f in &table.functions {
        let text = if f.callback { described(f) } else { format!("The type of every model's `{}`.", f.c_name) };
        let declared = declared(table, f, "typedef ", &format!("(*tern_{})", f.c_name));
        let _ = write!(out, "\n{}{declared}\n", comment(&text, ""));
    }
    out
}

/// What a function does, then its arguments.
fn described(f: &AbiFunction) -> String {
    f.args.iter().fold(f.doc.clone(), |text, a| text + &format!("\n- {}: {}", a.name, a.doc))
}

/// The declaration of a function called `name`, behind `keyword`.
fn declared(table: &AbiTable, f: &AbiFunction, keyword: &str, name: &str) -> String {
    let parameter = |a: &AbiArg| match c_type(table, &a.ty) {
        pointer if pointer.ends_with('*') => format!("{pointer}{}", a.name),
        other => format!("{other} {}", a.name),
    };
    let start = format!("{keyword}{} {name}(", c_type(table, &f.returns));
    let indent = format!("\n{}", " ".repeat(start.len()));
    let (mut out, mut column) = (start.clone(), start.len());
    for (i, a) in f.args.iter().enumerate() {
        let parameter = parameter(a) + if i + 1 < f.args.len() { "," } else { ");" };
        if i > 0 && column + 1 + parameter.len() > WIDTH {
            out += &indent;
            column = start.len();
        } else if i > 0 {
            out += " ";
            column += 1;
        }
        out += &parameter;
        column += parameter.len();
    }
    out
}

/// A type of the table in C.
fn c_type(table: &AbiTable, ty: &str) -> String {
    if let Some(pointee) = ty.strip_prefix("*const ") {
        return format!("const {} *", c_type(table, pointee));
    }
    if let Some(pointee) = ty.strip_prefix("*mut ") {
        return format!("{} *", c_type(table, pointee));
    }
    let structs = table.structs.iter().map(|s| (&s.name, &s.c_name));
    let functions = table.functions.iter().map(|f| (&f.name, &f.c_name));
    match structs.chain(functions).find(|(name, _)| *name == ty) {
        Some((_, c_name)) => format!("tern_{c_name}"),
        None if ty == "void" => "void".to_owned(),
        None if ty == "f32" => "float".to_owned(),
        // The lints have refused all but u8, u16, u32 and u64.
        None => format!("uint{}_t", &ty[1..]),
    }
}

/// Element and length of an array.
fn array(ty: &str) -> Option<(&str, &str)> {
    ty.strip_prefix('[')?.strip_suffix(']')?.split_once("; ")
}

/// A comment, in lines of [`WIDTH`] columns.
fn comment(text: &str, indent: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let hanging = if paragraph.starts_with("- ") { "  " } else { "" };
        let wrapped = wrapped(&c_names(paragraph), WIDTH - 6 - hanging.len() - indent.len());
        lines.extend(
            wrapped.into_iter().enumerate().map(|(i, line)| if i == 0 { line } else { hanging.to_owned() + &line }),
        );
    }
    format!("{indent}/* {} */\n", lines.join(&format!("\n{indent} * ")))
}

/// Lines of at most `width` columns where the words allow it; what stands in backquotes is one word.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for part in text.split(' ') {
        let open = words.last().is_some_and(|word| word.matches('`').count() % 2 == 1);
        match words.last_mut() {
            Some(word) if open => *word += &format!(" {part}"),
            _ => words.push(part.to_owned()),
        }
    }
    let mut lines = vec![String::new()];
    for word in words {
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line += &word,
            Some(line) if line.len() + 1 + word.len() <= width => *line += &format!(" {word}"),
            _ => lines.push(word),
        }
    }
    lines
}

/// The text with `TERN_` in front of every constant in backquotes.
fn c_names(text: &str) -> String {
    let mut parts = text.split('`');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_constant = part.chars().take(2).filter(char::is_ascii_uppercase).count() == 2;
        out += if is_constant { "`TERN_" } else { "`" };
        // One within an expression, as in `want = WANT_TOP_K`.
        out += &part.replace(" WANT_", " TERN_WANT_");
    }
    out
}
