//! Writes the figures of a complete run between two marks of `docs/performance.md`, and the plots beside it.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::figures::Section;
use crate::scenario::Engine;
use crate::{markdown, svg};

/// The marks between which the figures of a store stand.
fn marks(store: Engine) -> [String; 2] {
    let command = match store {
        Engine::Sqlite => "cargo xtask bench",
        Engine::Postgres => "cargo xtask bench --store postgres",
    };
    ["begin", "end"].map(|which| format!("<!-- Figures, written by {command}: {which} -->\n"))
}

/// Writes the sections of a store into the document, under `head`, and their plots into `plots/` beside it.
pub(crate) fn write(document: &Path, store: Engine, head: &str, sections: &[Section]) -> Result<()> {
    let directory = document.parent().context("the document is in no directory")?.join("plots");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut text = format!("{head}\n");
    for section in sections {
        text.push('\n');
        text.push_str(&markdown::section(section, true));
        for plot in &section.plots {
            let Some(drawn) = svg::draw(section, plot) else { continue };
            let path = directory.join(format!("{}.svg", plot.file));
            std::fs::write(&path, drawn).with_context(|| format!("cannot write {}", path.display()))?;
            text.push_str(&format!("\n![{}](plots/{}.svg)\n", plot.title, plot.file));
        }
    }
    let old = std::fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
    let marks = marks(store);
    let new = replaced(&old, &marks, &text).with_context(|| {
        let [begin, end] = &marks;
        format!("{} has not the two marks between which figures stand: {begin}{end}", document.display())
    })?;
    std::fs::write(document, new).with_context(|| format!("cannot write {}", document.display()))
}

/// The document with `figures` between its marks; `None` if it lacks them.
fn replaced(document: &str, [begin, end]: &[String; 2], figures: &str) -> Option<String> {
    let (before, rest) = document.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{figures}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Plot, Table};
    use crate::units::grouped;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let marks = marks(Engine::Postgres);
        let [begin, end] = &marks;
        let [first, last] = super::marks(Engine::Sqlite);
        let others = format!("{first}of another store\n{last}");
        let old = format!("# By hand\n{others}{begin}old\n{end}also by hand\n");
        let new = replaced(&old, &marks, "new").unwrap();
        assert_eq!(new, format!("# By hand\n{others}{begin}\nnew\n{end}also by hand\n"));
        assert_eq!(replaced(&new, &marks, "new").unwrap(), new);
        assert!(replaced("no marks", &marks, "new").is_none());
    }

    #[test]
    fn tables_and_plots_are_written_side_by_side() {
        let directory = tempfile::tempdir().unwrap();
        let document = directory.path().join("performance.md");
        std::fs::write(&document, format!("# By hand\n{}", marks(Engine::Sqlite).concat())).unwrap();
        let mut section = Section::new("rates", "Rates", "About.");
        let mut table = Table::new("1 partner", ["relay", "product"]);
        table.add("rate", "accepted/s", vec![vec![4.0], vec![2.0]], grouped);
        section.tables.push(table);
        section.plots.push(Plot { file: "rates", title: "A plot", rows: &["rate"] });
        section.plots.push(Plot { file: "none", title: "Of nothing", rows: &["unknown"] });
        write(&document, Engine::Sqlite, "Head.", &[section]).unwrap();
        let text = std::fs::read_to_string(&document).unwrap();
        assert!(text.contains("Head.") && text.contains("2 (0.50×)") && text.contains("![A plot](plots/rates.svg)"));
        assert!(!text.contains("Of nothing"));
        let plots: Vec<_> = directory.path().join("plots").read_dir().unwrap().collect();
        assert_eq!(plots.len(), 1);
    }

    #[test]
    fn this_repository_has_a_place_for_its_figures() {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance.md");
        let document = std::fs::read_to_string(document).unwrap();
        for store in [Engine::Sqlite, Engine::Postgres] {
            assert!(replaced(&document, &marks(store), "new").is_some(), "no place for {store:?}");
        }
    }
}
