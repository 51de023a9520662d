//! What happened in a walk, kept only when somebody will read it.

/// The lines of a story.
#[derive(Debug)]
pub(crate) struct Story {
    told: bool,
    pub(crate) lines: Vec<String>,
}

impl Story {
    /// A story that is kept only where it is `told`.
    pub(crate) fn new(told: bool) -> Self {
        let lines = Vec::new();
        Self { told, lines }
    }

    pub(crate) fn add(&mut self, line: impl FnOnce() -> String) {
        if self.told {
            self.lines.push(line());
        }
    }
}
