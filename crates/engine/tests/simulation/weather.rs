//! The event log as executors see it over a bad network.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sealwarden_eventlog::{
    AppendError, EventLog, Filter, Head, Memory, NewCommit, ReadError, Recorded, StreamName,
    Subscription,
};

use super::seed::Chance;

/// The log and what is on its way to it.
pub(crate) struct Weather {
    pub(crate) log: Memory,
    state: Mutex<State>,
    calm: AtomicBool,
}

struct State {
    chance: Chance,
    /// How many of a hundred appends go wrong.
    rough: usize,
    /// Appends that nobody waits for any more and that may arrive yet.
    late: Vec<(StreamName, Head, NewCommit)>,
}

impl Weather {
    /// A log whose clock is `clock_ms`.
    pub(crate) fn new(mut chance: Chance, clock_ms: Arc<AtomicI64>) -> Arc<Self> {
        let rough = *chance.pick(&[0, 5, 20, 40]);
        let log = Memory::with_clock(move || clock_ms.load(Ordering::Relaxed));
        let late = Vec::new();
        Arc::new(Self {
            log,
            state: Mutex::new(State {
                chance,
                rough,
                late,
            }),
            calm: AtomicBool::new(false),
        })
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// One late append arrives; says whether there was one.
    pub(crate) async fn deliver(&self) -> bool {
        let late = {
            let mut state = self.state.lock().unwrap();
            let count = state.late.len();
            if count == 0 {
                return false;
            }
            let at = state.chance.below(count);
            state.late.swap_remove(at)
        };
        let (stream, head, commit) = late;
        drop(self.log.append(&stream, head, commit).await);
        true
    }
}

/// One process's connection.
pub(crate) struct Connection {
    weather: Arc<Weather>,
    cut: Arc<AtomicBool>,
}

impl Connection {
    pub(crate) fn new(weather: &Arc<Weather>, cut: &Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self {
            weather: Arc::clone(weather),
            cut: Arc::clone(cut),
        })
    }

    fn readable(&self) -> Result<(), ReadError> {
        let bad = {
            let mut state = self.weather.state.lock().unwrap();
            let rough = state.rough / 4;
            state.chance.percent(rough)
        };
        let calm = self.weather.calm.load(Ordering::Relaxed);
        if self.cut.load(Ordering::Relaxed) || (bad && !calm) {
            let reason = "the network is away".to_owned();
            return Err(ReadError::Unavailable { reason });
        }
        Ok(())
    }
}

/// What becomes of an append.
enum Fate {
    Stored,
    /// Stored, and once more later.
    Twice,
    StoredUnheard,
    Lost,
    /// It may arrive later.
    Late,
    Refused,
}

impl Connection {
    fn fate(&self) -> Fate {
        if self.cut.load(Ordering::Relaxed) {
            return Fate::Refused;
        }
        let mut state = self.weather.state.lock().unwrap();
        let rough = state.rough;
        if self.weather.calm.load(Ordering::Relaxed) || !state.chance.percent(rough) {
            return Fate::Stored;
        }
        match state.chance.below(5) {
            0 => Fate::Twice,
            1 => Fate::StoredUnheard,
            2 => Fate::Lost,
            3 => Fate::Late,
            _ => Fate::Refused,
        }
    }

    fn later(&self, stream: &StreamName, expected: Head, commit: &NewCommit) {
        let mut state = self.weather.state.lock().unwrap();
        state.late.push((stream.clone(), expected, commit.clone()));
    }
}

#[async_trait]
impl EventLog for Connection {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Head,
        commit: NewCommit,
    ) -> Result<Recorded, AppendError> {
        let reason = || "the network is away".to_owned();
        let log = &self.weather.log;
        match self.fate() {
            Fate::Stored => log.append(stream, expected, commit).await,
            Fate::Twice => {
                self.later(stream, expected, &commit);
                log.append(stream, expected, commit).await
            }
            Fate::StoredUnheard => {
                drop(log.append(stream, expected, commit).await);
                Err(AppendError::Unknown { reason: reason() })
            }
            Fate::Lost => Err(AppendError::Unknown { reason: reason() }),
            Fate::Late => {
                self.later(stream, expected, &commit);
                Err(AppendError::Unknown { reason: reason() })
            }
            Fate::Refused => Err(AppendError::Unavailable { reason: reason() }),
        }
    }

    async fn read(
        &self,
        stream: &StreamName,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError> {
        self.readable()?;
        self.weather.log.read(stream, after, limit.min(3)).await
    }

    async fn head(&self, stream: &StreamName) -> Result<Head, ReadError> {
        self.readable()?;
        self.weather.log.head(stream).await
    }

    async fn subscribe(&self, filter: Filter, after: u64) -> Result<Subscription, ReadError> {
        self.readable()?;
        self.weather.log.subscribe(filter, after).await
    }

    async fn last_position(&self) -> Result<u64, ReadError> {
        self.readable()?;
        self.weather.log.last_position().await
    }
}
