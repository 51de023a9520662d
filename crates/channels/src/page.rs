//! A status page of static files: `index.html`, `incidents/ID.html`, `feed.xml` (Atom, RFC 4287).
//!
//! The files are rendered whole from what was approved as public, so a page that somebody changed or lost is as it was after the next notice. No script, nothing from
//! elsewhere, light and dark; every text is escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use sealwarden_keys::private_files;

use crate::message::Outcome;
use crate::settings::StatusPage;

/// Everybody may read the pages.
const PUBLIC_FILE: u32 = 0o644;
/// The most incidents on the first page, and entries of the feed: the newest.
const MAX_LISTED: usize = 50;
/// The most incidents whose pages are written: the newest. Older pages stay as they are.
const MAX_PAGES: usize = 500;

/// A notice to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicNotice {
    /// Its number in the incident.
    pub number: u32,
    /// One line.
    pub title: String,
    /// Plain text; an empty line begins a paragraph.
    pub text: String,
    /// Since when it may be read, Unix milliseconds.
    pub at_ms: i64,
    /// The same as RFC 3339 in UTC.
    pub at: String,
    /// BCP 47 language.
    pub language: String,
}

/// An incident with its notices, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicIncident {
    /// Its id.
    pub id: String,
    /// Whether it is over.
    pub over: bool,
    /// Its notices.
    pub notices: Vec<PublicNotice>,
}

impl PublicIncident {
    /// The name of its page: nothing of an id can lead out of the folder.
    fn file(&self) -> String {
        let good = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = self.id.chars().map(good).collect();
        format!("incidents/{name}.html")
    }

    fn last(&self) -> Option<&PublicNotice> {
        self.notices.last()
    }
}

/// Writes the pages into the folder, the first page last.
pub async fn publish(page: &StatusPage, incidents: &[PublicIncident]) -> Outcome {
    let folder = page.folder.clone();
    let files = render(page, incidents);
    let written = tokio::task::spawn_blocking(move || write(&folder, files).map(|()| folder));
    match written.await {
        Ok(Ok(folder)) => Outcome::Delivered(format!("the pages lie in {}", folder.display())),
        Ok(Err(reason)) => Outcome::NotSent(reason),
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

fn write(folder: &Path, files: BTreeMap<String, String>) -> Result<(), String> {
    let made = std::fs::create_dir_all(folder.join("incidents"));
    made.map_err(|error| format!("making {}: {error}", folder.display()))?;
    // `index.html` sorts behind `feed.xml` and `incidents/`: what it links to is there.
    let (first, rest): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|(name, _)| name == "index.html");
    for (name, content) in rest.into_iter().chain(first) {
        let path = folder.join(&name);
        if std::fs::read(&path).is_ok_and(|there| there == content.as_bytes()) {
            continue;
        }
        private_files::replace(&path, content.as_bytes(), PUBLIC_FILE)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The files by their names. Pure: the same notices give the same bytes.
pub fn render(page: &StatusPage, incidents: &[PublicIncident]) -> BTreeMap<String, String> {
    let mut shown: Vec<&PublicIncident> =
        incidents.iter().filter(|i| !i.notices.is_empty()).collect();
    shown.sort_by_key(|incident| std::cmp::Reverse(incident.last().map(|n| n.at_ms)));
    shown.truncate(MAX_PAGES);
    let mut files = BTreeMap::new();
    for incident in &shown {
        files.insert(incident.file(), incident_page(page, incident));
    }
    files.insert("feed.xml".to_owned(), feed(page, &shown));
    files.insert("index.html".to_owned(), index(page, &shown));
    files
}

/// The five characters that HTML and XML give a meaning; control characters, which XML 1.0 cannot hold, go.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(c),
            '\u{FFFE}' | '\u{FFFF}' => {}
            c if c.is_control() => {}
            c => safe.push(c),
        }
    }
    safe
}

fn head(title: &str, up: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>{}</title>\n<link rel=\"alternate\" type=\"application/atom+xml\" href=\"{up}feed.xml\" title=\"Notices\">\n<style>\n:root {{ color-scheme: light dark; }}\nbody {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 45rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; background: #ffffff; }}\na {{ color: #0b57b0; }}\narticle {{ border-top: 1px solid #8c959f; padding: 1rem 0; }}\n.state {{ font-weight: bold; }}\ntime {{ color: #57606a; }}\n@media (prefers-color-scheme: dark) {{\nbody {{ color: #e6edf3; background: #0d1117; }}\na {{ color: #79b8ff; }}\ntime {{ color: #a0a8b1; }}\n}}\n</style>\n</head>\n<body>\n",
        escaped(title)
    )
}

fn state(incident: &PublicIncident) -> &'static str {
    if incident.over { "Resolved" } else { "Open" }
}

fn index(page: &StatusPage, shown: &[&PublicIncident]) -> String {
    let mut html = head(&page.title, "");
    // Writing to a String cannot fail.
    let _ = writeln!(html, "<h1>{}</h1>\n<main>", escaped(&page.title));
    let open = shown.iter().filter(|incident| !incident.over).count();
    let summary = match open {
        0 => "No incident is open.".to_owned(),
        1 => "One incident is open.".to_owned(),
        many => format!("{many} incidents are open."),
    };
    let _ = writeln!(html, "<p class=\"state\">{summary}</p>");
    for incident in shown.iter().take(MAX_LISTED) {
        let Some(last) = incident.last() else {
            continue;
        };
        let _ = writeln!(
            html,
            "<article>\n<h2 lang=\"{}\"><a href=\"{}\">{}</a></h2>\n<p><span class=\"state\">{}</span> · <time datetime=\"{at}\">{at}</time></p>\n</article>",
            escaped(&last.language),
            incident.file(),
            escaped(&last.title),
            state(incident),
            at = escaped(&last.at),
        );
    }
    html.push_str("</main>\n<p><a href=\"feed.xml\">Atom feed</a></p>\n</body>\n</html>\n");
    html
}

fn incident_page(page: &StatusPage, incident: &PublicIncident) -> String {
    let title = incident.last().map_or("", |n| n.title.as_str());
    let mut html = head(&format!("{title} – {}", page.title), "../");
    let _ = writeln!(
        html,
        "<p><a href=\"../index.html\">{}</a></p>\n<main>\n<h1>{}</h1>\n<p class=\"state\">{}</p>",
        escaped(&page.title),
        escaped(title),
        state(incident)
    );
    for notice in incident.notices.iter().rev() {
        let _ = writeln!(
            html,
            "<article id=\"n{}\" lang=\"{}\">\n<h2>{}</h2>\n<p><time datetime=\"{at}\">{at}</time></p>",
            notice.number,
            escaped(&notice.language),
            escaped(&notice.title),
            at = escaped(&notice.at),
        );
        for paragraph in notice.text.split("\n\n").filter(|p| !p.trim().is_empty()) {
            let lines = escaped(paragraph.trim()).replace('\n', "<br>\n");
            let _ = writeln!(html, "<p>{lines}</p>");
        }
        html.push_str("</article>\n");
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn feed(page: &StatusPage, shown: &[&PublicIncident]) -> String {
    let base = page.url.trim_end_matches('/');
    let mut entries: Vec<(&PublicIncident, &PublicNotice)> = shown
        .iter()
        .flat_map(|incident| {
            incident
                .notices
                .iter()
                .map(move |notice| (*incident, notice))
        })
        .collect();
    entries.sort_by_key(|(incident, notice)| {
        (std::cmp::Reverse(notice.at_ms), &incident.id, notice.number)
    });
    let updated = entries
        .first()
        .map_or("1970-01-01T00:00:00Z", |(_, n)| n.at.as_str());
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\">\n<id>{base}/</id>\n<title>{title}</title>\n<updated>{updated}</updated>\n<author><name>{title}</name></author>\n<link rel=\"self\" href=\"{base}/feed.xml\"/>\n<link rel=\"alternate\" href=\"{base}/\"/>\n",
        base = escaped(base),
        title = escaped(&page.title),
        updated = escaped(updated),
    );
    for (incident, notice) in entries.into_iter().take(MAX_LISTED) {
        let link = format!("{base}/{}#n{}", incident.file(), notice.number);
        let _ = writeln!(
            xml,
            "<entry xml:lang=\"{}\">\n<id>{link}</id>\n<title>{}</title>\n<updated>{}</updated>\n<link rel=\"alternate\" href=\"{link}\"/>\n<content type=\"text\">{}</content>\n</entry>",
            escaped(&notice.language),
            escaped(&notice.title),
            escaped(&notice.at),
            escaped(&notice.text),
            link = escaped(&link),
        );
    }
    xml.push_str("</feed>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> StatusPage {
        StatusPage {
            folder: "status".into(),
            title: "Acme & Sons <status>".to_owned(),
            url: "https://status.example.com/".to_owned(),
        }
    }

    fn notice(number: u32, title: &str) -> PublicNotice {
        PublicNotice {
            number,
            title: title.to_owned(),
            text: "First <script>alert(1)</script>\nline two\n\nSecond \u{1b}paragraph".to_owned(),
            at_ms: i64::from(number),
            at: format!("2026-11-23T08:00:0{number}Z"),
            language: "en".to_owned(),
        }
    }

    #[test]
    fn nothing_of_a_notice_is_markup_and_no_id_leaves_the_folder() {
        let incidents = [PublicIncident {
            id: "../../etc/I-1".to_owned(),
            over: false,
            notices: vec![notice(1, "A \"quoted\" <b>title</b>"), notice(2, "Later")],
        }];
        let files = render(&page(), &incidents);
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["feed.xml", "incidents/------etc-I-1.html", "index.html"]
        );
        for (name, content) in &files {
            assert!(!content.contains("<script"), "{name}");
            assert!(!content.contains("<b>"), "{name}");
            assert!(!content.contains('\u{1b}'), "{name}");
        }
        let shown = &files["incidents/------etc-I-1.html"];
        assert!(
            shown.contains("First &lt;script&gt;alert(1)&lt;/script&gt;<br>\nline two</p>"),
            "{shown}"
        );
        assert!(
            shown.find("Later").unwrap() < shown.find("quoted").unwrap(),
            "the newest stands first"
        );
        assert!(files["index.html"].contains("One incident is open."));
        assert!(files["feed.xml"].contains("<updated>2026-11-23T08:00:02Z</updated>"));
        assert_eq!(
            files,
            render(&page(), &incidents),
            "the same notices give the same bytes"
        );
    }

    #[test]
    fn an_incident_without_public_notice_is_not_there() {
        let silent = PublicIncident {
            id: "I-1".to_owned(),
            over: false,
            notices: Vec::new(),
        };
        let files = render(&page(), &[silent]);
        assert_eq!(files.len(), 2);
        assert!(files["index.html"].contains("No incident is open."));
    }

    #[test]
    fn the_pages_are_written_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let incident = |over| PublicIncident {
            id: "I-1".to_owned(),
            over,
            notices: vec![notice(1, "x")],
        };
        for (over, word) in [(false, "Open"), (true, "Resolved")] {
            write(folder.path(), render(&page(), &[incident(over)])).unwrap();
            let html = std::fs::read_to_string(folder.path().join("index.html")).unwrap();
            assert!(html.contains(word), "{html}");
        }
        let file = folder.path().join("a file");
        std::fs::write(&file, "").unwrap();
        assert!(
            write(&file, render(&page(), &[]))
                .unwrap_err()
                .contains("a file")
        );
    }
}
