"""Number formats and the glossary of the report."""
