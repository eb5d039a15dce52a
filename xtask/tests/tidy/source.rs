//! A Rust file split into its code and its comments.
//!
//! A rule about code must not trip over a word in a comment or a string (a message may speak of
//! sleeping), and a rule about comments must not read code. A full parser would know more than any
//! rule here needs; this lexer knows just where comments, strings and character literals are.
//!
//! **Invariant:** `text`, `code` and `comments` have the same length and the same line breaks, so an
//! offset in one is the same place in the others.

use std::fmt;

/// One broken rule, at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    /// Path from the repository's root.
    pub(crate) path: String,
    /// Line, from 1.
    pub(crate) line: usize,
    /// What is wrong and what to do about it.
    pub(crate) why: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.why)
    }
}

/// A text file of the repository.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// Path from the repository's root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

impl Text {
    /// A breach at this 0-based line.
    pub(crate) fn breach_at_line(&self, index: usize, why: impl Into<String>) -> Breach {
        Breach { path: self.path.clone(), line: index + 1, why: why.into() }
    }
}

/// A Rust file.
#[derive(Clone, Debug)]
pub(crate) struct Rust {
    /// Path from the repository's root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// The code: comments and the contents of literals are blanks.
    pub(crate) code: String,
    /// The comments: all else is blanks.
    pub(crate) comments: String,
}

impl Rust {
    /// Splits a file.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut split = Split { text: text.as_bytes(), at: 0, code: vec![], comments: vec![] };
        split.run();
        let blanked = |bytes| String::from_utf8(bytes).expect("only whole literals are blanked");
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code: blanked(split.code),
            comments: blanked(split.comments),
        }
    }

    /// The last part of the path.
    pub(crate) fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Generated files answer to their generator, not to the rules on shape.
    pub(crate) fn is_generated(&self) -> bool {
        self.path.split('/').any(|part| part == "generated")
    }

    /// A breach at this byte of the file.
    pub(crate) fn breach(&self, offset: usize, why: impl Into<String>) -> Breach {
        let line = 1 + self.text[..offset].matches('\n').count();
        Breach { path: self.path.clone(), line, why: why.into() }
    }

    /// Where the items marked `#[cfg(test)]` are, as byte ranges.
    pub(crate) fn test_regions(&self) -> Vec<(usize, usize)> {
        let code = self.code.as_bytes();
        let starts = self.code.match_indices("#[cfg(test)]").map(|(at, _)| at);
        starts.map(|start| (start, item_end(code, start + "#[cfg(test)]".len()))).collect()
    }
}

/// The end of the item that begins here: its closing brace, or its semicolon.
fn item_end(code: &[u8], from: usize) -> usize {
    let mut depth = 0_u32;
    for (index, byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return index,
            b'}' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => return index,
            _ => {}
        }
    }
    code.len()
}

/// Where the words of `text` that equal `word` begin; letters, digits and `_` make a word.
pub(crate) fn find_word<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// What a stretch of a file is.
#[derive(Clone, Copy)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// The lexer's place in a file.
struct Split<'a> {
    text: &'a [u8],
    at: usize,
    code: Vec<u8>,
    comments: Vec<u8>,
}

impl Split<'_> {
    fn run(&mut self) {
        while self.at < self.text.len() {
            let rest = &self.text[self.at..];
            match rest {
                [b'/', b'/', ..] => self.take(line_length(rest), Kind::Comment),
                [b'/', b'*', ..] => self.take(block_length(rest), Kind::Comment),
                [b'"', ..] => self.quoted(1, string_length(rest)),
                [b'\'', ..] => self.quoted(1, char_length(rest)),
                [b'r', ..] if !self.in_word() => self.quoted(1, raw_length(rest)),
                [_, ..] => self.take(1, Kind::Code),
                [] => return,
            }
        }
    }

    /// Whether the byte before belongs to a word, apart from a literal's prefix `b` or `c`.
    fn in_word(&self) -> bool {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let (head, last) = match self.text[..self.at] {
            [.., head, last] => (Some(head), last),
            [last] => (None, last),
            [] => return false,
        };
        let is_prefix = matches!(last, b'b' | b'c') && !head.is_some_and(is_part);
        is_part(last) && !is_prefix
    }

    /// A literal of this length with its delimiter kept as code, or plain code where it has none.
    fn quoted(&mut self, delimiter: usize, length: usize) {
        self.take(delimiter, Kind::Code);
        if length >= 2 * delimiter {
            self.take(length - 2 * delimiter, Kind::Literal);
            self.take(delimiter, Kind::Code);
        }
    }

    fn take(&mut self, length: usize, kind: Kind) {
        let end = self.text.len().min(self.at + length);
        for &byte in &self.text[self.at..end] {
            let blank = if byte == b'\n' { b'\n' } else { b' ' };
            let (code, comment) = match kind {
                Kind::Code => (byte, blank),
                Kind::Comment => (blank, byte),
                Kind::Literal => (blank, blank),
            };
            self.code.push(code);
            self.comments.push(comment);
        }
        self.at = end;
    }
}

fn line_length(rest: &[u8]) -> usize {
    rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
}

/// Block comments nest in Rust.
fn block_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while at + 1 < rest.len() {
        match &rest[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" if depth == 1 => return at + 2,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    rest.len()
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal, or 1 for the quote of a lifetime.
fn char_length(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|&byte| byte == b'\'');
        return close.map_or(1, |at| at + 4);
    }
    let letters = std::str::from_utf8(rest.get(1..5.min(rest.len())).unwrap_or_default());
    let first = match letters {
        Ok(text) => text.chars().next(),
        Err(error) => std::str::from_utf8(&rest[1..=error.valid_up_to()])
            .ok()
            .and_then(|text| text.chars().next()),
    };
    let length = first.map_or(0, char::len_utf8);
    if length > 0 && rest.get(1 + length) == Some(&b'\'') { length + 2 } else { 1 }
}

/// A raw string from its `r` on, or 1 where this is not one.
fn raw_length(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 1;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = &rest[2 + hashes..];
    let end = body.windows(close.len()).position(|window| window == close);
    end.map_or(rest.len(), |at| 2 + hashes + at + close.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Rust::new("a.rs", text).code
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(code(r#"f("un\"safe")"#), r#"f("        ")"#);
        assert_eq!(code(r#"["", "a"] // b"#), r#"["", " "]     "#);
        assert_eq!(code(r##"r#"a"b"# x"##), r##"r      # x"##);
        assert_eq!(code(r#"br"\" y"#), r#"br  " y"#);
        assert_eq!(code("'\"' + '\\'' + 'é' z"), "' ' + '  ' + '  ' z");
    }

    #[test]
    fn lifetimes_and_raw_names_stay_code() {
        assert_eq!(code("fn f<'a>(x: &'a str) {} // '"), "fn f<'a>(x: &'a str) {}     ");
        assert_eq!(code("r#type + for_r\"x\""), "r#type + for_r\" \"");
    }

    #[test]
    fn the_comments_are_kept_apart() {
        assert_eq!(Rust::new("a.rs", "let s = \"// no\"; // yes").comments.trim(), "// yes");
    }

    #[test]
    fn a_test_region_ends_with_its_item() {
        let file = Rust::new("a.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nfn g() {}");
        let [(start, end)] = file.test_regions()[..] else { panic!("one region") };
        assert_eq!(&file.text[start..=end], "#[cfg(test)]\nmod tests { fn f() {} }");
    }

    #[test]
    fn words_have_edges() {
        assert_eq!(find_word("unsafe unsafe_code notunsafe", "unsafe").collect::<Vec<_>>(), [0]);
    }
}
