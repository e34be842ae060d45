use std::fmt;

/// Returns, line by line, what was due (`-`) and what was found (`+`); common lines have neither mark.
pub(super) fn difference(due: &impl fmt::Debug, found: &impl fmt::Debug) -> String {
    let (due, found) = (format!("{due:#?}"), format!("{found:#?}"));
    let (due, found): (Vec<_>, Vec<_>) = (due.lines().collect(), found.lines().collect());
    let head = due.iter().zip(&found).take_while(|(due, found)| due == found).count();
    let (due_rest, found_rest) = (&due[head..], &found[head..]);
    let tail = due_rest.iter().rev().zip(found_rest.iter().rev()).take_while(|(due, found)| due == found).count();
    let line = |sign: char| move |line: &&str| format!("{sign} {line}\n");
    due[..head]
        .iter()
        .map(line(' '))
        .chain(due_rest[..due_rest.len() - tail].iter().map(line('-')))
        .chain(found_rest[..found_rest.len() - tail].iter().map(line('+')))
        .chain(due_rest[due_rest.len() - tail..].iter().map(line(' ')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_that_differ_are_marked() {
        assert_eq!(
            difference(&vec![1, 2, 3], &vec![1, 5, 6, 3]),
            "  [\n      1,\n-     2,\n+     5,\n+     6,\n      3,\n  ]\n"
        );
        assert_eq!(difference(&"a", &"b"), "- \"a\"\n+ \"b\"\n");
    }
}
