//! Which contexts a dialplan file declares.

use std::collections::BTreeSet;

/// Longest name of a context in bytes; Asterisk cuts longer ones (`AST_MAX_CONTEXT`, with its NUL).
const MAX_NAME: usize = 79;

/// What a dialplan file means to declare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    /// Names of the contexts that Asterisk shows when it has read all of the file.
    pub(super) contexts: BTreeSet<Vec<u8>>,
    /// Whether it has extensions of its own.
    pub(super) has_extensions: bool,
}

/// What a file's author means. Where Asterisk stops reading, as it does at a `[` that is never closed, the contexts
/// from there on are declared all the same, so that they are found missing.
pub(super) fn declared(file: &[u8]) -> Declared {
    let mut declared = Declared::default();
    let mut in_context = false;
    for line in lines(file) {
        if let Some(header) = line.strip_prefix(b"[") {
            let name = context(header);
            in_context = name.is_some();
            declared.contexts.extend(name);
        } else if in_context && line.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"exten")) {
            declared.has_extensions = true;
        }
    }
    declared
}

/// The lines of a configuration file without comments and without the blanks around them.
pub(super) fn lines(file: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut depth = 0;
    file.split(|&byte| byte == b'\n').map(move |line| trimmed(&uncommented(line, &mut depth)).to_vec())
}

/// Characters that nobody sees, and that Asterisk takes for the beginning of a word: a header behind one of them is none,
/// and its extensions join the context before. It was meant as one.
const UNSEEN: [&str; 8] =
    ["\u{feff}", "\u{a0}", "\u{200b}", "\u{200c}", "\u{200d}", "\u{2060}", "\u{202f}", "\u{3000}"];

fn trimmed(line: &[u8]) -> &[u8] {
    let mut line = line.trim_ascii();
    while let Some(unseen) = UNSEEN.iter().find(|unseen| line.starts_with(unseen.as_bytes())) {
        line = line[unseen.len()..].trim_ascii();
    }
    line
}

/// What of a line is no comment. `depth` counts the block comments (`;-- … --;`, they nest) that are open.
fn uncommented(line: &[u8], depth: &mut usize) -> Vec<u8> {
    let mut text = Vec::new();
    let mut at = 0;
    // The dashes of a block's end must come after whatever began or ended before: `;--;` is no block.
    let mut from = 0;
    while let Some(&byte) = line.get(at) {
        let rest = &line[at..];
        if byte != b';' {
            if *depth == 0 {
                text.push(byte);
            }
            at += 1;
        } else if at > from && line[at - 1] == b'\\' {
            if *depth == 0 {
                text.pop();
                text.push(byte);
            }
            at += 1;
            from = at;
        } else if rest.starts_with(b";--") && rest.get(3) != Some(&b'-') {
            *depth += 1;
            at += 3;
            from = at;
        } else if *depth > 0 {
            if line[from..at].ends_with(b"--") {
                *depth -= 1;
                from = at + 1;
            }
            at += 1;
        } else {
            break;
        }
    }
    text
}

/// The context that a line begins, by what follows its `[`.
fn context(rest: &[u8]) -> Option<Vec<u8>> {
    let (name, rest) = match rest.iter().position(|&byte| byte == b']') {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (rest, &b""[..]),
    };
    // Only right behind the name: Asterisk takes "[name] (!)" for a context with something to ignore.
    let is_template = rest.strip_prefix(b"(").is_some_and(|options| {
        let end = options.iter().position(|&byte| byte == b')').unwrap_or(options.len());
        options[..end].split(|&byte| byte == b',').any(|option| option == b"!")
    });
    let is_section = [&b"general"[..], b"globals"].iter().any(|section| name.eq_ignore_ascii_case(section));
    let is_context = !name.is_empty() && !is_template && !is_section;
    is_context.then(|| name[..name.len().min(MAX_NAME)].to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(file: &str, expected: &[&str]) {
        let declared = declared(file.as_bytes()).contexts;
        let declared: Vec<_> = declared.iter().map(|name| String::from_utf8_lossy(name)).collect();
        assert_eq!(declared, expected, "{file:?}");
    }

    /// Each as Asterisk 16 shows it in `dialplan show`.
    #[test]
    fn headers() {
        check("[a]\nexten => 1,1,NoOp()\n[b]\n", &["a", "b"]);
        check("[empty]", &["empty"]);
        check("exten => 1,1,NoOp()\n", &[]);
        check("   [indented]\n\t[tab]\r\n[crlf]\r\n", &["crlf", "indented", "tab"]);
        check("[ spaced ]\n[a b]\n", &[" spaced ", "a b"]);
        check("[Upper]\n[UPPER]\n[dup]\n[dup]\n", &["UPPER", "Upper", "dup"]);
        check("[trail] garbage\n[comment];x\n[value]=>x\n", &["comment", "trail", "value"]);
        check("[a]b]\n[[x]]\n[q'uote]\n[]\n", &["[x", "a", "q'uote"]);
        check("[semi\\;colon]\n", &["semi;colon"]);
        check("#include x.conf\n#[no]\n", &[]);
        check("same => n,Set(x=[1])\n", &[]);
        check("\u{feff}[bom]\n", &["bom"]);
        check("[é]\n", &["é"]);
    }

    /// The first is what an editor of another system leaves; joining two such files moves it into the middle.
    #[test]
    fn headers_behind_what_nobody_sees() {
        check("[a]\n\u{feff}[bom]\n\u{a0}[nbsp]\n \u{200b} [zero]\n", &["a", "bom", "nbsp", "zero"]);
    }

    #[test]
    fn extensions_are_found_in_contexts() {
        let has_extensions = |file: &str| declared(file.as_bytes()).has_extensions;
        assert!(has_extensions("[a]\nexten => 1,1,NoOp()\n"));
        assert!(has_extensions("[t](!)\n[a](t)\n  EXTEN=1,1,NoOp()\n"));
        assert!(!has_extensions("exten => 1,1,NoOp()\n[globals]\nexten=1\n[t](!)\nexten => 1,1,NoOp()\n"));
        assert!(!has_extensions("[a]\n;exten => 1,1,NoOp()\ninclude => b\n"));
    }

    #[test]
    fn sections_and_templates_are_none() {
        check("[general]\n[globals]\n[General]\n[GLOBALS]\n[real]", &["real"]);
        check("[ general ]\n", &[" general "]);
        check("[t](!)\n[t2](!,t)\n[t3](t,!)\n[t4 ](!)\n[t5](!) ; c\n[t6](!)[x]\n", &[]);
        check("[child](t)\n[add](+)\n[both](+,t)\n[none]()\n", &["add", "both", "child", "none"]);
        check("[not] (!)\n[nor](a)(!)\n", &["nor", "not"]);
    }

    #[test]
    fn comments() {
        check(";[a]\n ; [b]\n[c] ; [d]\n", &["c"]);
        check(";-- [a]\n[b]\n--;\n[c]\n", &["c"]);
        check(";--[a]--;\n[b] ;-- x --;\n;-- x --;[c]\n", &["b", "c"]);
        check(";--\n[a]\n--; [b]\n", &["b"]);
        check(";-- ;-- x\n[a]\n--;\n[b]\n--;\n[c]\n", &["c"]);
        check(";--- [a]\n[b]\n", &["b"]);
        check(";--;\n[a]\n--;\n[b]\n", &["b"]);
        check("exten => 1,1,Set(x=a\\;--b)\n[a]\n", &["a"]);
        check("exten => 1,1,Set(x=;-- y --;z)\n[a]\n", &["a"]);
        check(";-- never ended\n[a]\n", &[]);
    }

    /// Asterisk stops at each of these, or goes on as if in a comment; what is lost must be found missing.
    #[test]
    fn what_asterisk_trips_over_is_declared_all_the_same() {
        check("[open\n[after]\n", &["after", "open"]);
        check("[open ; comment\n", &["open"]);
        check("[options](!\n[after]\n", &["after"]);
        check("[a]\n--;\n[b]\n;---\n[c]\n---;\n[d]\n", &["a", "b", "c", "d"]);
        check("#include missing.conf\n[after]\n", &["after"]);
    }

    #[test]
    fn long_names_are_cut_as_asterisk_cuts_them() {
        check(&format!("[{}]", "x".repeat(100)), &[&"x".repeat(79)]);
    }

    proptest! {
        #[test]
        fn any_bytes_will_do(file in prop::collection::vec(any::<u8>(), 0..64), text in "[\\[\\];(!),\\\\\n -]{0,40}") {
            declared(&file);
            declared(text.as_bytes());
        }

        #[test]
        fn a_commented_file_declares_nothing(names in prop::collection::vec("[a-z]{1,4}", 0..5)) {
            let file: String = names.iter().map(|name| format!("[{name}]\n")).collect();
            let commented = format!(";--\n{file}--;\n");
            prop_assert!(declared(commented.as_bytes()).contexts.is_empty());
            prop_assert_eq!(declared(file.as_bytes()).contexts.len(), names.iter().collect::<BTreeSet<_>>().len());
        }
    }
}
