// Times in the reader's zone, in the form and width that the page has them in UTC.
"use strict";
for (const time of document.querySelectorAll("time[datetime]")) {
	const at = new Date(time.dateTime);
	if (isNaN(at)) continue;
	const two = (n) => String(n).padStart(2, "0");
	time.title = time.textContent;
	time.textContent = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}
