//! Panels, the parts of a screen: facts, tables and charts.

use crate::theme::Tone;

/// A panel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Note beside the title.
    pub(crate) note: String,
    /// True if the panel is as wide as the screen.
    pub(crate) wide: bool,
    pub(crate) content: Content,
}

/// Content of a panel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Facts(Vec<Fact>),
    Table(Table),
    Chart(Chart),
}

/// A named value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: String,
    /// The part and the whole, if the value is a share.
    pub(crate) share: Option<(u64, u64)>,
    pub(crate) tone: Tone,
    /// Path of the value in the JSON of a view, if older daemons may lack it.
    pub(crate) field: Option<&'static str>,
}

/// Names with counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    /// The total that the rows are part of; 0 if unknown.
    pub(crate) whole: u64,
    /// Number of rows, including those that do not match the search.
    pub(crate) all: usize,
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) count: u64,
    /// The formatted count.
    pub(crate) text: String,
    /// Maximum error: the true count is at most this much lower.
    pub(crate) error: u64,
}

/// Series over the last minutes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chart {
    pub(crate) series: Vec<Series>,
    /// Unit of the values.
    pub(crate) unit: &'static str,
}

/// A line of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Time in seconds relative to now, zero or negative, and the value.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Rows of a table if there is room for all panels.
pub(crate) const TOP: usize = 10;
/// Lines of a chart.
pub(crate) const CHART: usize = 9;

impl Panel {
    pub(crate) fn facts(title: &str, facts: Vec<Fact>) -> Self {
        let content = Content::Facts(facts);
        Self { title: title.to_owned(), note: String::new(), wide: false, content }
    }

    pub(crate) fn table(title: &str, table: Table) -> Self {
        let content = Content::Table(table);
        Self { title: title.to_owned(), note: String::new(), wide: false, content }
    }

    pub(crate) fn chart(title: &str, chart: Chart) -> Self {
        let content = Content::Chart(chart);
        Self { title: title.to_owned(), note: String::new(), wide: false, content }
    }

    /// Adds a note beside the title.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Makes the panel as wide as the screen.
    pub(crate) fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    /// Returns the facts of the panel, if it has any.
    pub(crate) fn facts_mut(&mut self) -> &mut [Fact] {
        match &mut self.content {
            Content::Facts(facts) => facts,
            _ => &mut [],
        }
    }

    /// Returns the height in lines, including the title.
    pub(crate) fn height(&self) -> usize {
        1 + match &self.content {
            Content::Facts(facts) => facts.len(),
            Content::Table(table) => table.rows.len().clamp(1, TOP),
            Content::Chart(_) => CHART,
        }
    }
}

impl Fact {
    pub(crate) fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), share: None, tone: Tone::Plain, field: None }
    }

    /// Sets the share of a whole.
    pub(crate) fn of(mut self, part: u64, whole: u64) -> Self {
        self.share = (whole > 0).then_some((part, whole));
        self
    }

    /// Sets the path of a value that older daemons lack.
    pub(crate) fn field(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    /// Marks the value as missing in the daemon's answer.
    pub(crate) fn absent(&mut self) {
        "—".clone_into(&mut self.value);
        (self.share, self.tone) = (None, Tone::Dim);
    }

    /// Sets the tone.
    pub(crate) fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}
