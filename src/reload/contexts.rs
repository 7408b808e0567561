//! Which contexts a dialplan file declares.

use std::collections::BTreeSet;

/// Longest name of a context in bytes; Asterisk cuts longer ones (`AST_MAX_CONTEXT`, with its NUL).
const MAX_NAME: usize = 79;

/// Names of the contexts that Asterisk shows when it has read all of this file.
///
/// This is what the file's author means. Where Asterisk stops reading, as it does at a `[` that is never
/// closed, the contexts from there on are declared all the same, so that they are found missing.
pub(super) fn declared(file: &[u8]) -> BTreeSet<Vec<u8>> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut depth = 0;
    file.split(|&byte| byte == b'\n').filter_map(|line| context(&uncommented(line, &mut depth))).collect()
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

/// The context that a line without comments begins.
fn context(line: &[u8]) -> Option<Vec<u8>> {
    let rest = line.trim_ascii().strip_prefix(b"[")?;
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
        let declared = declared(file.as_bytes());
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
            prop_assert!(declared(commented.as_bytes()).is_empty());
            prop_assert_eq!(declared(file.as_bytes()).len(), names.iter().collect::<BTreeSet<_>>().len());
        }
    }
}
