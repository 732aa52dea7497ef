//! Templates of tern's own, for models that come without one.
//!
//! In: nothing. Out: a table. Each writes `bos_token` first; where the tokenizer has no BOS, that is empty.

/// A template that is chosen by name.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// Whose form it is.
    pub about: &'static str,
    /// Jinja.
    pub source: &'static str,
    /// Texts that end a reply.
    pub ends: &'static [&'static str],
}

/// All of them; the first is for models of which nothing is known.
pub const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "plain",
        about: "names and colons, for models without chat tokens",
        source: PLAIN,
        ends: &["\nUser:"],
    },
    Builtin { name: "llama3", about: "Llama 3", source: LLAMA3, ends: &["<|eot_id|>", "<|end_of_text|>"] },
    Builtin { name: "chatml", about: "Qwen and many others", source: CHATML, ends: &["<|im_end|>", "<|endoftext|>"] },
    Builtin { name: "bitnet", about: "BitNet b1.58 2B-4T", source: BITNET, ends: &["<|eot_id|>", "<|end_of_text|>"] },
];

const PLAIN: &str = "{{ bos_token }}\
{% for message in messages %}\
{% if message.role == 'system' %}{{ message.content | trim }}\n\n\
{% else %}{{ message.role | capitalize }}: {{ message.content | trim }}\n\
{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}Assistant:{% endif %}";

const LLAMA3: &str = "{{ bos_token }}\
{% for message in messages %}\
<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n{{ message.content | trim }}<|eot_id|>\
{% endfor %}\
{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{{ '' }}{% endif %}";

const CHATML: &str = "{{ bos_token }}\
{% for message in messages %}\
<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{{ '' }}\
{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant\n{{ '' }}{% endif %}";

const BITNET: &str = "{{ bos_token }}\
{% for message in messages %}\
{{ message.role | capitalize }}: {{ message.content | trim }}<|eot_id|>\
{% endfor %}\
{% if add_generation_prompt %}Assistant: {% endif %}";
