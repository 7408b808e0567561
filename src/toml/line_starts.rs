//! Where the lines of a text begin.

/// Looked for once in a text, so that each place in it is found in a few steps.
pub(super) struct LineStarts(Vec<usize>);

impl LineStarts {
    pub(super) fn of(text: &[u8]) -> LineStarts {
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        LineStarts(std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect())
    }

    /// The line, counted from 1, of a byte of the text.
    pub(super) fn line_of(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_in_the_line_that_counting_gives() {
        for text in ["", "a", "\n", "a\nbc\n\nd", "\n\nx\n"] {
            let lines = LineStarts::of(text.as_bytes());
            for at in 0..=text.len() {
                let counted = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
                assert_eq!(lines.line_of(at), counted, "{text:?} at {at}");
            }
        }
    }
}
