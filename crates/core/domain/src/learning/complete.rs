//! Whether people completed a postmortem.

use super::state::Audience;

/// What begins a line that people have to complete.
pub const QUESTION: &str = "TO COMPLETE:";

/// What every postmortem says, in both audiences.
const SECTIONS: [&str; 3] = ["## Summary", "## Timeline", "## What changes"];

/// Lines that are still for people: number from 1, and what is asked.
pub fn questions(text: &str) -> Vec<(usize, &str)> {
    let asked = |line: &'_ str| line.find(QUESTION).map(|at| at + QUESTION.len());
    text.lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index + 1, line.get(asked(line)?..)?.trim())))
        .collect()
}

/// Checks a postmortem of this incident, and gives for whom it is. The error names lines.
pub fn check_complete(text: &str, incident: &str) -> Result<Audience, String> {
    let front = text
        .strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---\n"))
        .map(|(front, _)| front)
        .ok_or("line 1: it does not begin with front matter between two lines `---`; `postmortem draft` writes one")?;
    let value = |name: &str| {
        let mut lines = front.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    match value("incident") {
        Some(named) if named == incident => {}
        Some(named) => {
            return Err(format!(
                "its front matter says `incident: {named}`, and it is to be recorded for {incident}"
            ));
        }
        None => return Err("its front matter has no line `incident:`".to_owned()),
    }
    let word = value("audience").unwrap_or_default();
    let audience = Audience::parse(word).ok_or_else(|| {
        format!("its front matter says `audience: {word}`; it must be internal or public")
    })?;
    let missing: Vec<&str> = SECTIONS
        .into_iter()
        .filter(|section| !text.lines().any(|line| line.starts_with(section)))
        .collect();
    if !missing.is_empty() {
        return Err(format!("it has no section {}", missing.join(", ")));
    }
    let left = questions(text);
    if left.is_empty() {
        return Ok(audience);
    }
    let lines: Vec<String> = left
        .iter()
        .map(|(number, asked)| format!("  line {number}: {asked}"))
        .collect();
    Err(format!(
        "{} questions are not answered (replace the whole line, or write why there is nothing to say):\n{}",
        left.len(),
        lines.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "---\nincident: I-1\naudience: public\n---\n\n# It\n\n## Summary\n\nA.\n\n## Timeline (UTC)\n\nB.\n\n## What changes\n\nC.\n";

    #[test]
    fn a_complete_text_is_taken_and_others_say_where() {
        assert_eq!(check_complete(GOOD, "I-1"), Ok(Audience::Public));
        for (from, to, says) in [
            ("incident: I-1", "incident: I-2", "says `incident: I-2`"),
            ("incident: I-1\n", "", "no line `incident:`"),
            ("audience: public", "audience: all", "internal or public"),
            ("## Timeline", "## Times", "no section ## Timeline"),
            ("---\n", "", "line 1"),
            (
                "\nB.",
                "\n- TO COMPLETE: who was told?",
                "line 14: who was told?",
            ),
        ] {
            let refused = check_complete(&GOOD.replace(from, to), "I-1").unwrap_err();
            assert!(refused.contains(says), "{says:?} is not in {refused:?}");
        }
    }
}
