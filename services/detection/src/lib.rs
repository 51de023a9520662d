//! The detection service: detectors, incidents.
