//! The figures as a table, and held against the targets.

use super::measure::Cost;
use crate::generate::Kind;

/// How pktvisord with one worker is called in a table.
pub const OURS: &str = "pktvisord --workers 1";
/// The same with two workers.
pub const OURS_TWICE: &str = "pktvisord --workers 2";
/// What every processor time is set in relation to.
pub const REFERENCE: &str = "capinfos";

/// A line of the table.
pub struct Row {
    /// Which program.
    pub name: &'static str,
    /// Medians.
    pub cost: Cost,
}

/// A Markdown table whose columns also line up as plain text.
pub fn render(rows: &[Row]) -> String {
    let ratio = |row: &Row, to: &str| match find(rows, to) {
        Some(other) => format!("{:.2}", row.cost.cpu / other.cpu),
        None => "–".to_owned(),
    };
    let header = ["", "CPU s", "wall s", "peak MiB", "CPU / capinfos", "CPU / pktvisord"];
    let mut lines = vec![header.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            row.name.to_owned(),
            format!("{:.2}", row.cost.cpu),
            format!("{:.2}", row.cost.wall),
            format!("{:.1}", row.cost.peak),
            ratio(row, REFERENCE),
            ratio(row, OURS),
        ]
    }));
    let widths: [usize; 6] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let [name_width, figure_widths @ ..] = widths;
    let mut lines: Vec<_> = lines
        .iter()
        .map(|[name, figures @ ..]| {
            let figures = figures.iter().zip(figure_widths);
            let figures = figures.map(|(figure, width)| format!(" {figure:>width$} |"));
            format!("| {name:<name_width$} |{}\n", figures.collect::<String>())
        })
        .collect();
    let rule = figure_widths.map(|width| format!("{}:|", "-".repeat(width + 1)));
    lines.insert(1, format!("|{}|{}\n", "-".repeat(name_width + 2), rule.concat()));
    lines.concat()
}

/// One line for each target that can be judged.
pub fn targets(kind: Kind, rows: &[Row]) -> Vec<String> {
    let (ours, twice, reference) =
        (find(rows, OURS), find(rows, OURS_TWICE), find(rows, REFERENCE));
    let cpu_target = match kind {
        Kind::Mixed => Some(0.28),
        Kind::Dns => Some(0.6),
        Kind::Flood => None,
    };
    let peak_target = match kind {
        Kind::Mixed => Some(64.0),
        Kind::Dns => None,
        Kind::Flood => Some(128.0),
    };
    let mut lines = Vec::new();
    if let (Some(target), Some(ours), Some(reference)) = (cpu_target, ours, reference) {
        let ratio = ours.cpu / reference.cpu;
        lines.push(line(
            "CPU time as a ratio of capinfos'",
            ratio,
            "at most",
            target,
            ratio <= target,
        ));
    }
    if let (Some(ours), Some(twice)) = (ours, twice) {
        let speed = ours.wall / twice.wall;
        lines.push(line("speed of two workers to one", speed, "at least", 1.6, speed >= 1.6));
    }
    if let (Some(target), Some(ours)) = (peak_target, ours) {
        let peak = twice.map_or(ours.peak, |twice| ours.peak.max(twice.peak));
        lines.push(line("peak memory in MiB", peak, "at most", target, peak <= target));
    }
    lines
}

/// A list item that holds a figure against its target.
fn line(what: &str, figure: f64, bound: &str, target: f64, met: bool) -> String {
    let verdict = if met { "met" } else { "missed" };
    format!("* {what}: {figure:.2}, to be {bound} {target}: **{verdict}**\n")
}

/// The cost in the row called `name`.
fn find(rows: &[Row], name: &str) -> Option<Cost> {
    rows.iter().find(|row| row.name == name).map(|row| row.cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, cpu: f64, wall: f64, peak: f64) -> Row {
        Row { name, cost: Cost { cpu, wall, peak } }
    }

    #[test]
    fn columns_line_up_and_ratios_are_of_cpu_time() {
        let rows = [row(OURS, 0.5, 0.6, 30.0), row(REFERENCE, 2.0, 2.1, 100.25)];
        let expected = "\
|                       | CPU s | wall s | peak MiB | CPU / capinfos | CPU / pktvisord |
|-----------------------|------:|-------:|---------:|---------------:|----------------:|
| pktvisord --workers 1 |  0.50 |   0.60 |     30.0 |           0.25 |            1.00 |
| capinfos              |  2.00 |   2.10 |    100.2 |           1.00 |            4.00 |
";
        assert_eq!(render(&rows), expected);
    }

    #[test]
    fn ratio_to_what_was_not_measured_is_left_out() {
        let table = render(&[row("dnstop", 1.0, 1.0, 1.0)]);
        assert!(table.ends_with("|              – |               – |\n"), "{table}");
        assert!(targets(Kind::Mixed, &[row("dnstop", 1.0, 1.0, 1.0)]).is_empty());
    }

    #[test]
    fn targets_are_judged() {
        let rows = [
            row(OURS, 0.5, 1.0, 30.0),
            row(OURS_TWICE, 0.6, 0.65, 70.0),
            row(REFERENCE, 2.0, 2.0, 20.0),
        ];
        assert_eq!(
            targets(Kind::Mixed, &rows).concat(),
            "* CPU time as a ratio of capinfos': 0.25, to be at most 0.28: **met**\n\
             * speed of two workers to one: 1.54, to be at least 1.6: **missed**\n\
             * peak memory in MiB: 70.00, to be at most 64: **missed**\n"
        );
    }
}
