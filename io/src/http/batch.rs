//! `POST /v1/match:batch`: several requests of `/v1/match`, each answered on its own.
use super::error::{ApiError, Reply};
use super::json;
use super::matching::{self, One};
use super::state::{Call, Step, ThreadState, Told};
use crate::limits::{BATCH_CANDIDATES_MAX, BATCH_REQUESTS_MAX};
use crate::tokenize::Ask;
use hyper::StatusCode;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::cell::{Cell, RefCell};
use std::fmt;

#[derive(Debug, Deserialize)]
struct Body<'b> {
    #[serde(borrow)]
    requests: Option<Requests<'b>>,
}

/// The requests as they stand in the body.
#[derive(Debug)]
struct Requests<'b>(Vec<&'b RawValue>);

impl<'de: 'b, 'b> Deserialize<'de> for Requests<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = Requests<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of requests")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Requests<'de>, A::Error> {
                let mut requests = Vec::new();
                while let Some(request) = seq.next_element()? {
                    if requests.len() == BATCH_REQUESTS_MAX {
                        let message = format_args!("more than {BATCH_REQUESTS_MAX} requests");
                        return Err(A::Error::custom(message));
                    }
                    requests.push(request);
                }
                Ok(Requests(requests))
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    responses: Responses<'a>,
}

/// The answers, looked up one after the other while they are written.
struct Responses<'a> {
    requests: &'a [&'a RawValue],
    state: RefCell<&'a mut ThreadState>,
    /// What came of the prompts that came as text.
    told: &'a [Told],
    /// Those that have to be tokenized.
    asks: RefCell<Vec<Ask>>,
    /// Candidates listed so far.
    listed: Cell<usize>,
}

impl Responses<'_> {
    /// Answers one request, if what it lists fits into the batch's answer; nothing if its prompt has to be tokenized.
    fn one<R>(
        &self,
        request: &RawValue,
        render: impl FnOnce(&matching::Answer<'_>) -> R,
    ) -> Result<Option<R>, ApiError> {
        let state = &mut self.state.borrow_mut();
        let one = matching::one(state, request.get().as_bytes(), self.told, |answer| {
            let listed = self.listed.get() + answer.candidates.len();
            if listed > BATCH_CANDIDATES_MAX {
                return Err(too_many());
            }
            self.listed.set(listed);
            Ok(render(answer))
        })?;
        match one {
            One::Done(rendered) => rendered.map(Some),
            One::Tokenize(ask) => {
                self.asks.borrow_mut().push(ask);
                Ok(None)
            }
        }
    }
}

impl Serialize for Responses<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.requests.len()))?;
        for request in self.requests {
            match self.one(request, |answer| seq.serialize_element(answer)) {
                Ok(Some(written)) => written?,
                // What is written now is thrown away.
                Ok(None) => seq.serialize_element(&())?,
                Err(error) => seq.serialize_element(&error)?,
            }
        }
        seq.end()
    }
}

/// Answers `POST /v1/match:batch`.
pub(super) fn answer(state: &mut ThreadState, call: &Call<'_>) -> Result<Step, ApiError> {
    let body: Body<'_> = json::object(call.body)?;
    let Some(Requests(requests)) = body.requests else {
        return Err(ApiError::field("requests", "missing"));
    };
    let responses = Responses {
        requests: &requests,
        state: RefCell::new(state),
        told: call.told,
        asks: RefCell::default(),
        listed: Cell::new(0),
    };
    let answer = Answer { responses };
    let reply = Reply::accepted(call, &answer)?;
    let asks = answer.responses.asks.into_inner();
    if asks.is_empty() {
        return Ok(Step::Done(reply));
    }
    Ok(Step::Tokenize(asks))
}

fn too_many() -> ApiError {
    let message = format!("the answers of a batch list {BATCH_CANDIDATES_MAX} candidates at most");
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    ApiError::new(status, "batch_too_large", message).at("limit")
}
