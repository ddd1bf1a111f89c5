"""The AsyncAPI document: the topics for publishers and subscribers, and the page that shows it to people."""
