"""What a person looks at: report.html, the summary, the trace."""
