"""Tables and figures from result rows; reads the store only, and never imports torch."""
