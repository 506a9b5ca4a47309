// All text is written through textContent: names and messages are not trusted.

export const byId = (id) => document.getElementById(id);

/** Make an element; its text is never parsed as markup. */
export function element(tag, { text, className, data = {}, attributes = {} } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  Object.assign(made.dataset, data);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Write a text only where it changed, so that screen readers do not repeat it. */
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export const percent = (share) => `${Math.round(share * 100)} %`;

export function clock(iso) {
  const moment = new Date(iso);
  return Number.isNaN(moment.getTime()) ? "–" : moment.toLocaleTimeString([], { hour12: false });
}

export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}
