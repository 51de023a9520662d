//! How wide a text is at most, so that it never leaves its box.
//!
//! Whoever renders the picture picks the font. The widths here are those of `DejaVu Sans Bold`, one of the widest
//! fonts in use, rounded up; characters that are not listed count as wide as they are high.

/// The width of a text, in thousandths of the font's size.
fn thousandths(text: &str) -> i64 {
    text.chars().map(of_char).sum()
}

fn of_char(c: char) -> i64 {
    match c {
        'i' | 'l' | 'j' | '\'' | '|' | ' ' | '.' | ',' | ':' | ';' | 'I' | '!' => 420,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '-' | '/' | '\\' | '*' | '"' => 530,
        // The widest of ASCII, and accented letters of Latin, Greek and Cyrillic.
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '\u{a1}'..='\u{5ff}' => 1_110,
        'a'..='z' | '0'..='9' | '_' | '$' | '?' | '{' | '}' => 720,
        'A'..='Z' | '+' | '=' | '<' | '>' | '&' | '#' | '~' | '^' => 860,
        _ => 1_250,
    }
}

/// The width of a text in pixels, rounded up.
pub(crate) fn width(text: &str, size: i64) -> i64 {
    (thousandths(text) * size).div_euclid(1_000) + 1
}

/// Breaks a text into lines that are at most so wide; a word that is wider is cut. At most `most` lines: what is
/// left over is cut and ends in `…`.
pub(crate) fn wrap(text: &str, size: i64, room: i64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let joined = if line.is_empty() {
            word.to_owned()
        } else {
            format!("{line} {word}")
        };
        if width(&joined, size) <= room {
            line = joined;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for c in word.chars().filter(|c| !c.is_control()) {
            line.push(c);
            if width(&line, size) > room {
                line.pop();
                lines.push(std::mem::take(&mut line));
                line.push(c);
            }
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            last.push('…');
            while width(last, size) > room && last.chars().count() > 1 {
                last.pop();
                last.pop();
                last.push('…');
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_its_room() {
        for text in [
            "a short one",
            "Wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww",
            "多言語のタイトルもはみ出さない",
            "a\u{1b}[31m b",
        ] {
            for most in [1, 2, 9] {
                let lines = wrap(text, 13, 120, most);
                assert!(lines.len() <= most && !lines.is_empty());
                assert!(lines.iter().all(|line| width(line, 13) <= 120), "{lines:?}");
            }
        }
        assert_eq!(wrap("one two three", 10, 60, 1), ["one tw…"]);
    }
}
