//! Templates in the forms that are in use, and hostile ones.

use super::*;

fn said(role: Role, content: &str) -> Message {
    Message { role, content: content.to_owned() }
}

fn render(template: &ChatTemplate, messages: &[Message]) -> Result<String> {
    let specials =
        Specials { bos: "<s>".to_owned(), eos: "</s>".to_owned(), unk: "<unk>".to_owned(), pad: String::new() };
    let date = Date::parse("2026-03-05").expect("a date");
    template.render(&Request { messages, specials: &specials, date, reply_follows: true })
}

#[track_caller]
fn rendered(source: &str, messages: &[Message]) -> String {
    let template = ChatTemplate::new("test", source).expect("a template");
    render(&template, messages).expect("a text")
}

fn talk() -> Vec<Message> {
    vec![
        said(Role::System, "Be brief."),
        said(Role::User, " Hi "),
        said(Role::Assistant, "Ho"),
        said(Role::User, "<&'"),
    ]
}

#[test]
fn built_in_templates_are_as_their_models_know_them() {
    let texts: Vec<String> = builtin::BUILTINS
        .iter()
        .map(|b| {
            ChatTemplate::new(b.name, b.source).expect("a template");
            render(&ChatTemplate::builtin(b.name).expect("it is there"), &talk()).expect("a text")
        })
        .collect();
    assert_eq!(texts[0], "<s>Be brief.\n\nUser: Hi\nAssistant: Ho\nUser: <&'\nAssistant:");
    let turn = |role: &str, text: &str| format!("<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>");
    let turns =
        [turn("system", "Be brief."), turn("user", "Hi"), turn("assistant", "Ho"), turn("user", "<&'")].concat();
    assert_eq!(texts[1], format!("<s>{turns}<|start_header_id|>assistant<|end_header_id|>\n\n"));
    let turn = |role: &str, text: &str| format!("<|im_start|>{role}\n{text}<|im_end|>\n");
    let turns =
        [turn("system", "Be brief."), turn("user", " Hi "), turn("assistant", "Ho"), turn("user", "<&'")].concat();
    assert_eq!(texts[2], format!("<s>{turns}<|im_start|>assistant\n"));
    assert_eq!(
        texts[3],
        "<s>System: Be brief.<|eot_id|>User: Hi<|eot_id|>Assistant: Ho<|eot_id|>User: <&'<|eot_id|>Assistant: "
    );
    assert!(ChatTemplate::builtin("none").is_none());
}

/// Blocks on lines of their own, a system message taken out by slicing, the date, a refusal: the manner of Llama 3.
const LLAMA_LIKE: &str = r#"
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "tools" }}
{%- endif %}
{{- "Date: " + date_string + "\n\n" + system + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate: ' ~ message.role) }}
    {%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"#;

#[test]
fn a_template_in_the_manner_of_llama_3() {
    let text = rendered(LLAMA_LIKE, &talk()[..2]);
    let head = "<s><|start_header_id|>system<|end_header_id|>\n\nDate: 05 Mar 2026\n\nBe brief.<|eot_id|>";
    let tail =
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
    assert_eq!(text, format!("{head}{tail}"));
    let template = ChatTemplate::new("test", LLAMA_LIKE).expect("a template");
    assert_eq!(template.ends(), ["<|eot_id|>"]);
    let e = render(&template, &[said(Role::Assistant, "a")]).expect_err("a refusal");
    assert!(matches!(&e, Error::TemplateRefused { said } if said == "roles must alternate: assistant"), "{e}");
}

#[test]
fn a_template_in_the_manner_of_bitnet() {
    // One line, a capitalised role, `set` of the loop's list.
    let source = "{% set all = messages %}{% for m in all %}{% set content = m['role'] | capitalize + ': ' + \
        m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}\
        {{ content }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";
    assert_eq!(rendered(source, &talk()[1..2]), "<s>User: Hi<|eot_id|>Assistant: ");
}

/// Namespaces, reversed slices, methods of Python, loop controls, thoughts cut out: the manner of Qwen.
const QWEN_LIKE: &str = r#"
{%- set ns = namespace(last=messages|length - 1, found=false) %}
{%- for message in messages[::-1] %}
    {%- if message.role == "user" and not ns.found %}
        {%- set ns.found = true %}
        {%- set ns.last = (messages|length - 1) - loop.index0 %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == "assistant" and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {%- generation %}
    {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- endgeneration %}
    {%- if loop.index0 == ns.last and content.startswith('json') %}
        {{- {'a': [1, 2.5, none, true], "b": content} | tojson }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"#;

#[test]
fn a_template_in_the_manner_of_qwen() {
    let messages =
        [said(Role::User, "q"), said(Role::Assistant, "<think>hm</think>\n\nyes"), said(Role::User, "json <é'&>")];
    let want = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n<|im_start|>user\njson <é'&><|im_end|>\n\
        {\"a\": [1, 2.5, null, true], \"b\": \"json <é'&>\"}<|im_start|>assistant\n";
    assert_eq!(rendered(QWEN_LIKE, &messages), want);
}

#[test]
fn blocks_are_trimmed_as_hugging_face_does() {
    assert_eq!(rendered("a\n  {% if true %}\n b\n  {% endif %}\nc\n", &[]), "a\n b\nc");
    assert_eq!(rendered("{{ {'k': [1]} | tojson(indent=2) }}", &[]), "{\n  \"k\": [\n    1\n  ]\n}");
}

/// Fails unless the template is refused, with `reason` in what is said.
#[track_caller]
fn refused(source: &str, reason: &str) {
    let done = ChatTemplate::new("hostile", source).and_then(|template| render(&template, &talk()));
    let e = done.expect_err(source);
    assert!(matches!(e, Error::BadTemplate { .. }) && e.to_string().contains(reason), "{reason:?} in {e}");
    assert!(e.to_string().len() < 1000, "{e}");
}

#[test]
fn work_is_limited() {
    refused("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "never end");
    refused("{% for a in range(100000000000) %}{% endfor %}", "");
    refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion limit");
    refused("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", "recursion limit");
    let twice = "{% set ns = namespace(x='ab') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
    refused(twice, "");
    let method = |call: &str| format!("{{% set s = 'a' * 1000000 %}}{{{{ {call} }}}}");
    refused(&method("s.replace('a', s)"), "");
    refused(&method("s.replace('', s)"), "");
    refused(&method("s.join(range(9999))"), "");
    refused("{{ '{:>1000000000}'.format(1) }}", "not available");
    refused("{{ '%1000000000d' | format(1) }}", "");
    refused("{{ 'a' * 100000000000 }}", "");
    refused("{{ [1] * 100000000 }}", "");
}

#[test]
fn text_is_limited() {
    refused("{% set s = 'a' * 100000 %}{% for a in range(30) %}{{ s }}{% endfor %}", "more than 104");
}

/// A template that nests a list `depth` deep, or with `twice` makes a list of both ends each time.
fn nested(depth: usize, twice: bool, then: &str) -> String {
    let inner = if twice { "[ns.x, ns.x]" } else { "[ns.x]" };
    format!(
        "{{% set ns = namespace(x=[]) %}}{{% for i in range({depth}) %}}{{% set ns.x = {inner} %}}{{% endfor %}}{then}"
    )
}

#[test]
fn deep_values_do_no_harm() {
    // Whatever comes of them, it comes.
    for then in ["", "{{ ns.x }}", "{{ ns.x | tojson }}", "{% set y %}{{ ns.x }}{% endset %}"] {
        for (depth, twice) in [(9_000, false), (50, true)] {
            let template = ChatTemplate::new("hostile", &nested(depth, twice, then)).expect("a template");
            let _ = render(&template, &talk());
        }
    }
    // No fuel is taken while such values are compared: 2^50 lists stop at the deadline.
    let source: Arc<str> = nested(50, true, "{{ ns.x | min }}").into();
    let specials = Specials::default();
    let request = Request { messages: &[], specials: &specials, date: Date::EPOCH, reply_follows: true };
    let soon = std::time::Duration::from_millis(100);
    let e = sandbox::render_within("x", &source, &request, soon).expect_err("no end");
    assert!(matches!(e, Error::TemplateStuck { .. }) && e.to_string().contains("100ms"), "{e}");
    // As deep as fuel allows.
    let many = vec![said(Role::User, "a"); 3000];
    let deep = "{% set ns = namespace(x=[]) %}{% for a in range(9000) %}{% for b in range(9000) %}{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}";
    let template = ChatTemplate::new("hostile", deep).expect("a template");
    assert!(render(&template, &many).is_err());
}

#[test]
fn broken_templates_say_where() {
    refused("{% if %}", "syntax error");
    refused("a\n{{ messages[7].content.x }}", "undefined value");
    refused("{{ nothing.at.all }}", "undefined value");
    refused("{{ nothing() }}", "unknown function");
    refused("{{ 'a' | nothing }}", "unknown filter");
    refused("{{ 'a'.nothing() }}", "nothing");
    refused("{% include 'etc/passwd' %}", "");
    refused("{% extends 'x' %}", "");
    refused("{% import 'x' as y %}", "");
    refused("{{ strftime_now('%Q') }}", "%Q");
    refused(&"x".repeat(MAX_TEMPLATE_BYTES + 1), "at most");
    refused(&"{{ ".repeat(5000), "syntax error");
    refused(&format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)), "");
    let raised = ChatTemplate::new("x", "{{ raise_exception('no' * 5000) }}").expect("a template");
    let e = render(&raised, &[]).expect_err("a refusal").to_string();
    assert!(e.contains("nonono") && e.len() < 1000, "{e}");
}

#[test]
fn damaged_templates_never_panic() {
    let mut random = crate::sample::SplitMix64::new(5);
    let mut pick = |n: usize| (random.next_u64() % n as u64) as usize;
    let mut done = 0;
    for round in 0..400 {
        let mut source = if round % 2 == 0 { LLAMA_LIKE } else { QWEN_LIKE }.as_bytes().to_vec();
        for _ in 0..=pick(2) {
            let (at, from) = (pick(source.len()), pick(source.len()));
            match pick(3) {
                0 => source.truncate(at.max(1)),
                1 => source[at] = source[from],
                _ => drop(source.remove(at)),
            }
        }
        let Ok(source) = String::from_utf8(source) else { continue };
        let text = ChatTemplate::new("damaged", &source).and_then(|template| render(&template, &talk()));
        done += usize::from(text.is_ok());
    }
    assert!(done > 20, "only {done} texts: the damage is too heavy to test anything");
}
