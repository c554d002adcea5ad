//! The part of an item's code that is of interest.

use super::SnippetWindow;
use crate::item::{Item, LineRange};

/// Code of more lines than this is cropped even when the request does not ask for it.
const LONG: usize = 40;

/// A part of an item's code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cropped {
    pub(super) code: String,
    /// Its lines: of the file where the item says which lines its code is, else of the code.
    pub(super) range: Option<LineRange>,
}

/// Crops the code of `item` to `window` around the lines that its context names, else around
/// the first line with its function or first symbol. Without such a line, or when the code is
/// short and no window is asked for, the code is left whole.
pub(super) fn crop(item: &Item, window: Option<SnippetWindow>) -> Cropped {
    let lines: Vec<&str> = item.code.lines().collect();
    let stated = item.context.range.filter(|range| range.start > 0 && range.end >= range.start);
    // Code that is no longer than the stated lines is that excerpt itself; longer code is taken
    // for the whole file.
    let excerpt = stated.filter(|range| lines.len() <= span(*range));
    let first_line = excerpt.map_or(1, |range| range.start);
    let whole = || Cropped { code: item.code.clone(), range: stated };
    if window.is_none() && lines.len() <= LONG {
        return whole();
    }
    let window = window.unwrap_or_default();
    let focus = match stated {
        Some(range) if excerpt.is_none() => Some((index(range.start), index(range.end))),
        Some(_) | None => line_of_interest(item, &lines).map(|line| (line, line)),
    };
    let Some((start, end)) = focus.filter(|(start, _)| *start < lines.len()) else {
        return whole();
    };
    let before = usize::try_from(window.before).unwrap_or(usize::MAX);
    let after = usize::try_from(window.after).unwrap_or(usize::MAX);
    let from = start.saturating_sub(before);
    let to = end.saturating_add(after).min(lines.len() - 1);
    if from == 0 && to + 1 == lines.len() {
        return whole();
    }
    let kept = lines.get(from..=to).unwrap_or_default();
    let start = first_line.saturating_add(u32::try_from(from).unwrap_or(u32::MAX));
    Cropped { code: kept.join("\n"), range: Some(extent(start, kept.len())) }
}

/// The part of `range` that `code`, cut from its end, still covers.
pub(super) fn shortened(range: LineRange, code: &str) -> LineRange {
    let covered = extent(range.start, code.lines().count());
    LineRange { start: range.start, end: range.end.min(covered.end) }
}

/// At most `max` characters of `text`, cut at the end of a line if that keeps most of it.
pub(super) fn cut(text: &str, max: usize) -> String {
    let end = text.char_indices().nth(max).map_or(text.len(), |(at, _)| at);
    let kept = text.get(..end).unwrap_or_default();
    match kept.rfind('\n') {
        Some(line_end) if end < text.len() && line_end * 2 > kept.len() => {
            kept.get(..line_end).unwrap_or_default().to_owned()
        }
        Some(_) | None => kept.to_owned(),
    }
}

fn line_of_interest(item: &Item, lines: &[&str]) -> Option<usize> {
    let name = item.context.function.as_ref().or_else(|| item.facets.symbols.first())?;
    lines.iter().position(|line| line.contains(name.as_str()))
}

fn extent(start: u32, lines: usize) -> LineRange {
    let more = u32::try_from(lines.saturating_sub(1)).unwrap_or(u32::MAX);
    LineRange { start, end: start.saturating_add(more) }
}

/// Number of lines in `range`.
fn span(range: LineRange) -> usize {
    usize::try_from(range.end - range.start).unwrap_or(usize::MAX).saturating_add(1)
}

/// Line number to position.
fn index(line: u32) -> usize {
    usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX)
}
