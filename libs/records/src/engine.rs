//! What happens to one JSON value or one line once it is cut out of the object: recognise, normalise, deliver, count.

use std::borrow::Cow;

use gumshoe_model::{DeadLetter, Event, RecordKind, event::MAX_DEAD_LETTER_BYTES};

use crate::{
    Options, Sink, Stop, Summary, cloudtrail,
    find::{Context, Found, Search, Shape, UNKNOWN},
    flow, guardduty,
    json::{cut, too_deep, validate},
    kubernetes, securityhub,
};

/// The consumer, and the count of what it was given.
pub(crate) struct Engine<'e, S> {
    pub(crate) options: &'e Options,
    pub(crate) summary: Summary,
    sink: &'e mut S,
    context: Context,
    /// The kind of the last record: the next one is likely of the same, and is tried as such before anything else.
    last: Option<RecordKind>,
}

impl<'e, S: Sink> Engine<'e, S> {
    pub(crate) fn new(options: &'e Options, sink: &'e mut S) -> Self {
        let context = Context { cluster: options.eks_cluster.clone(), account: None };
        Self { options, summary: Summary::default(), sink, context, last: Some(RecordKind::CloudTrail) }
    }

    pub(crate) fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        self.summary.records += 1;
        self.summary.events += 1;
        self.sink.event(event)
    }

    pub(crate) fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop> {
        self.summary.records += 1;
        self.summary.dead_letters += 1;
        self.sink.dead_letter(letter)
    }

    /// A whole record that is none.
    pub(crate) fn refuse(&mut self, text: &str, offset: u64, reason: String) -> Result<(), Stop> {
        let raw = cut(Cow::Borrowed(text), MAX_DEAD_LETTER_BYTES);
        self.dead_letter(&DeadLetter { offset, length: text.len() as u64, reason, raw })
    }

    fn deliver(&mut self, made: Result<Event<'_>, String>, text: &str, offset: u64) -> Result<(), Stop> {
        match made {
            Ok(mut event) => {
                event.offset = offset;
                self.event(&event)
            }
            Err(reason) => self.refuse(text, offset, reason),
        }
    }

    /// Takes one value of the object: a record, or an envelope of records. Gives the reason back, and delivers nothing, when
    /// the text is not valid JSON.
    pub(crate) fn value(&mut self, text: &str, offset: u64) -> Result<Option<String>, Stop> {
        if too_deep(text) {
            return Ok(validate(text).err());
        }
        match self.last {
            Some(RecordKind::CloudTrail) => {
                if let Some(record) = cloudtrail::recognise(text) {
                    return self.deliver(cloudtrail::normalise(record, text), text, offset).map(|()| None);
                }
            }
            Some(RecordKind::EksAudit) => {
                if let Some(audit) = kubernetes::recognise(text) {
                    let made = kubernetes::normalise(audit, text, &self.context);
                    return self.deliver(made, text, offset).map(|()| None);
                }
            }
            _ => {}
        }
        if let Err(reason) = validate(text) {
            return Ok(Some(reason));
        }
        let mut search = Search::new(&self.context, self.options);
        if !search.top(text, offset) {
            self.refuse(text, offset, UNKNOWN.to_owned())?;
            return Ok(None);
        }
        for found in search.found {
            self.found(&found)?;
        }
        Ok(None)
    }

    fn found(&mut self, found: &Found<'_>) -> Result<(), Stop> {
        let text = &*found.text;
        let made = match &found.shape {
            Shape::Unknown(reason) => return self.refuse(text, found.offset, (*reason).to_owned()),
            Shape::Flow => return self.flow_line(text, found.offset),
            Shape::Record(kind) => {
                self.last = Some(*kind);
                match kind {
                    RecordKind::CloudTrail => cloudtrail::event(text),
                    RecordKind::EksAudit => kubernetes::event(text, &found.context),
                    RecordKind::GuardDuty => guardduty::event(text),
                    RecordKind::SecurityHub => securityhub::event(text),
                    RecordKind::VpcFlow => return self.flow_line(text, found.offset),
                }
            }
        };
        match &found.raw {
            Some(raw) => self.deliver(made.map(|event| Event { raw: Cow::Borrowed(raw), ..event }), raw, found.offset),
            None => self.deliver(made, text, found.offset),
        }
    }

    /// Takes a flow log line that came inside another format, and so without a header.
    fn flow_line(&mut self, line: &str, offset: u64) -> Result<(), Stop> {
        let layout = self.options.flow_layout();
        let mut values = [""; flow::Field::COUNT];
        let mut event = Event::new(RecordKind::VpcFlow, gumshoe_model::Timestamp(0), line);
        let made = layout.split(line, &mut values).and_then(|()| flow::fill(&mut event, &values, line, offset));
        self.deliver(made.map(|()| event), line, offset)
    }
}
