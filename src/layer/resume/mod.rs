//! TO BE WRITTEN: resume.
